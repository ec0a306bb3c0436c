@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * 65535u + group.x) * 64u + local;
  if (at >= p[0]) {
    return;
  }
{{body}}
}
