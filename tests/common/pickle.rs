//! Protocol 2 opcodes of what PyTorch writes.
#![allow(dead_code)] // each test uses a part

pub fn text(s: &str) -> Vec<u8> {
    [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
}
pub fn int(n: i32) -> Vec<u8> {
    [&b"J"[..], &n.to_le_bytes()].concat()
}
pub fn ints(values: &[i32]) -> Vec<u8> {
    [b"(".to_vec(), values.iter().flat_map(|&n| int(n)).collect(), b"t".to_vec()].concat()
}
pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}
pub fn storage(class: &str, key: &str, len: i32) -> Vec<u8> {
    let parts = [text("storage"), global("torch", class), text(key), text("cpu"), int(len)].concat();
    [b"(", &parts[..], b"tQ"].concat()
}
pub fn tensor(storage: Vec<u8>, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks].concat();
    [global("torch._utils", "_rebuild_tensor_v2"), b"(".to_vec(), arguments, b"tR".to_vec()].concat()
}
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = entries.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
    [b"}(".to_vec(), items, b"u".to_vec()].concat()
}
pub fn program(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02".to_vec(), value, b".".to_vec()].concat()
}
