//! What a pickle names, and which of it is refused.
//!
//! Nothing is ever imported or run, so that even a hostile pickle does nothing here. Objects of classes are passed over
//! by their names; but what reaches out of the data (a call of `os.system`) is refused even so: whoever made such a
//! file means harm to those who open it with PyTorch, and they should know.

use crate::error::{Error, ErrorKind};
use crate::weights::tensor::Dtype;

/// What a class or function is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// A kind of dict.
    Mapping,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// A storage of elements.
    Storage(Dtype),
    /// Makes plain data, of which only the class is kept.
    Object,
    /// May be named, as modules name their activation; a call of it is refused.
    Function,
}

/// Functions and types in lower case that make plain data, by module.
const DATA: &[(&str, &[&str])] = &[
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("_codecs", &["encode"]),
    ("copyreg", &["_reconstructor", "__newobj__", "__newobj_ex__"]),
    ("copy_reg", &["_reconstructor", "__newobj__"]),
    ("collections", &["deque"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("functools", &["partial"]),
    ("types", &["SimpleNamespace"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", MULTIARRAY),
    ("numpy._core.multiarray", MULTIARRAY),
    ("numpy.core.numeric", MULTIARRAY),
    ("numpy._core.numeric", MULTIARRAY),
    ("numpy.random._pickle", &["__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"]),
    ("torch", &["device", "dtype"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
];
const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
];
const MULTIARRAY: &[&str] = &["scalar", "_reconstruct", "_frombuffer"];
/// How the types of numbers of `numpy` and `torch` begin.
const NUMBERS: &[&str] =
    &["bfloat", "bool", "bytes_", "complex", "datetime64", "float", "int", "str_", "timedelta64", "uint"];

/// Modules of Python, and packages, through which a pickle reaches files, processes, the network or code.
const REACHING: &str = "
    __builtin__ _io _pickle _posixsubprocess _thread _winapi aiohttp asyncio atexit bdb builtins cProfile cffi
    cloudpickle code codeop commands concurrent ctypes dill distutils ensurepip fileinput ftplib gc glob http
    httplib httpx idlelib imaplib imp importlib inspect io joblib logging marshal mmap multiprocessing nt ntpath
    operator os paramiko pdb pexpect pickle pip pkgutil platform poplib popen2 posix posixpath profile pty pydoc
    requests runpy select selectors setuptools shelve shutil signal site smtplib socket socketserver sqlite3 ssl
    subprocess sys tempfile threading timeit trace types urllib urllib2 urllib3 venv webbrowser winreg xmlrpc
    zipapp zipfile zipimport";

/// What `module.name` is.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming it, if it is of a module that reaches out.
pub fn look_up(module: &str, name: &str) -> Result<Known, Error> {
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins" | "__builtin__", "dict") => {
            Known::Mapping
        }
        ("torch._utils", "_rebuild_tensor_v2") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Known::RebuildParameter,
        ("torch._utils", name) if name.starts_with("_rebuild_") => Known::Object,
        ("torch", "FloatStorage") => Known::Storage(Dtype::F32),
        ("torch", "HalfStorage") => Known::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Known::Storage(Dtype::BF16),
        ("torch", "DoubleStorage") => Known::Storage(Dtype::F64),
        ("torch", "LongStorage") => Known::Storage(Dtype::I64),
        ("torch", "IntStorage") => Known::Storage(Dtype::I32),
        ("torch", "ByteStorage") => Known::Storage(Dtype::U8),
        ("torch", "CharStorage") => Known::Storage(Dtype::I8),
        ("torch", "BoolStorage") => Known::Storage(Dtype::Bool),
        ("numpy" | "torch", name) if NUMBERS.iter().any(|start| name.starts_with(start)) => Known::Object,
        _ if DATA.iter().any(|(m, names)| *m == module && names.contains(&name)) => Known::Object,
        _ if reaches_out(module, name) => return Err(hostile(module, name)),
        _ if is_class(name) => Known::Object,
        _ => Known::Function,
    })
}

/// Whether `module.name` is of one of [`REACHING`], or got at through one that another module imported.
fn reaches_out(module: &str, name: &str) -> bool {
    let inner = name.rsplit_once('.').map_or("", |(scopes, _)| scopes);
    let mut scopes = module.split('.').take(1).chain(inner.split('.'));
    scopes.any(|scope| REACHING.split_whitespace().any(|reaching| reaching == scope))
}

/// Whether a name is written as Python writes classes.
fn is_class(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.trim_start_matches('_').starts_with(|c: char| c.is_ascii_uppercase())
}

fn hostile(module: &str, name: &str) -> Error {
    let (module, name) = (module.escape_default(), name.escape_default());
    let message = format!("the file would call {module}.{name}, which no weights need; nothing of it was run");
    Error::new(ErrorKind::Unsupported, message).remedy(
        "do not open it with PyTorch either; ask for a file of the tensors alone: torch.save(model.state_dict(), file)",
    )
}

/// The error of a pickle that does not follow the rules.
pub fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Format, what).remedy("the checkpoint is damaged; fetch it again")
}

/// The error of a pickle that holds more than data.
pub fn foreign(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the file holds {what}; only tensors are read, nothing is executed"))
        .remedy("save the tensors alone: torch.save(model.state_dict(), file)")
}
