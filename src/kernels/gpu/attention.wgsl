// Sizes: rows and columns of the image, queries and keys of a head (without windows), heads.
const H = 0u;
const W = 1u;
const QUERIES = 2u;
const KEYS = 3u;
const HEADS = 4u;
// Fours of a head; rows and columns of a window; fours of all heads.
const D4 = {{d4}}u;
const ROWS = {{rows}}u;
const COLUMNS = {{columns}}u;

const LOWEST = -1e30;
const NOWHERE = 0xffffffffu;

var<private> head: u32;
// Of the window: index of its image, first row and column.
var<private> image: u32;
var<private> top: u32;
var<private> left: u32;
{{shared}}

{{loads}}

@compute @workgroup_size({{queries}}, {{splits}}, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  head = group.y;
{{main}}
}
