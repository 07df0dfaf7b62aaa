//! What unpickling would have called, judged.

use crate::Global;
use crate::torch::{dtypes, numpy, tensors};

/// What Python's unpickler could do by looking up and calling a class or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Makes data: a tensor, a dictionary, a number.
    Harmless,
    /// Not known here: its module would be imported, and it would be called.
    Unknown,
    /// Runs commands, evaluates text, imports by name or opens files.
    RunsCode,
}

impl Verdict {
    /// The words that `inspect` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Unknown => "unknown",
            Self::RunsCode => "runs code",
        }
    }
}

/// Modules of which every function reaches the system, another program, the network, or the interpreter itself.
const DANGEROUS_MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "posixpath",
    "ntpath",
    "subprocess",
    "_posixsubprocess",
    "sys",
    "socket",
    "_socket",
    "shutil",
    "runpy",
    "importlib",
    "imp",
    "code",
    "codeop",
    "pty",
    "commands",
    "popen2",
    "ctypes",
    "_ctypes",
    "marshal",
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "pickletools",
    "shelve",
    "webbrowser",
    "urllib",
    "urllib2",
    "http",
    "httplib",
    "ftplib",
    "requests",
    "smtplib",
    "telnetlib",
    "xmlrpc",
    "asyncio",
    "multiprocessing",
    "threading",
    "_thread",
    "inspect",
    "gc",
    "pdb",
    "bdb",
    "cProfile",
    "timeit",
    "doctest",
    "pydoc",
    "pip",
    "ensurepip",
    "setuptools",
    "distutils",
    "venv",
    "zipimport",
    "pkgutil",
    "tempfile",
    "io",
    "_io",
    "fileinput",
    "linecache",
    "sqlite3",
    "bz2",
    "gzip",
    "lzma",
    "tarfile",
    "zipfile",
    "site",
    "sitecustomize",
    "ast",
    "dis",
    "mmap",
    "atexit",
    "aiohttp",
    "httpx",
    "paramiko",
    "fabric",
    "plumbum",
    "IPython",
    "torch.utils.cpp_extension",
    "torch._inductor",
    "torch._dynamo",
    "torch.hub",
    "torch.package",
    "torch.distributed.rpc",
    "torch.utils.model_zoo",
    "torch.ops",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.testing",
];

/// Functions that run code or open files in modules that are harmless otherwise.
const DANGEROUS: &[(&str, &str)] = &[
    ("torch", "load"),
    ("torch", "save"),
    ("torch", "compile"),
    ("torch.serialization", "load"),
    ("torch.serialization", "save"),
    ("torch.jit", "load"),
    ("torch.jit._serialization", "load"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"),
    ("torch.jit._script", "script"),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"),
    ("torch.fx.graph_module", "reduce_graph_module"),
    ("torch.fx.graph_module", "reduce_package_graph_module"),
    ("torch.fx.graph_module", "_forward_from_src"),
    ("torch.storage", "UntypedStorage.from_file"),
    ("numpy", "load"),
    ("numpy", "memmap"),
    ("numpy", "fromfile"),
    ("numpy", "save"),
    ("numpy", "savetxt"),
    ("numpy", "loadtxt"),
    ("numpy", "genfromtxt"),
    ("numpy.core.memmap", "memmap"),
    ("numpy._core.memmap", "memmap"),
    ("pandas", "read_pickle"),
    ("pandas", "eval"),
    ("pandas.io.pickle", "read_pickle"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("operator", "itemgetter"),
    ("_operator", "attrgetter"),
    ("_operator", "methodcaller"),
    ("_operator", "itemgetter"),
    ("functools", "reduce"),
    ("_functools", "reduce"),
    ("itertools", "starmap"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("types", "LambdaType"),
    ("types", "MethodType"),
    ("logging.config", "fileConfig"),
    ("logging.config", "dictConfig"),
    ("logging", "FileHandler"),
    ("uuid", "_get_command_stdout"),
    ("platform", "popen"),
];

/// Functions of the interpreter that make data.
const HARMLESS_BUILTINS: &[&str] = &[
    "set",
    "frozenset",
    "list",
    "dict",
    "tuple",
    "bytes",
    "bytearray",
    "complex",
    "int",
    "long",
    "float",
    "str",
    "unicode",
    "bool",
    "slice",
    "range",
    "xrange",
    "object",
    "NoneType",
    "Ellipsis",
    "NotImplemented",
    "basestring",
    "type",
    "Exception",
    "ValueError",
    "KeyError",
    "RuntimeError",
    "TypeError",
];

/// Functions of the interpreter that run what they are given, import, or reach any attribute.
const DANGEROUS_BUILTINS: &[&str] = &[
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "file",
    "input",
    "raw_input",
    "__import__",
    "getattr",
    "setattr",
    "delattr",
    "apply",
    "map",
    "filter",
    "reduce",
    "globals",
    "locals",
    "vars",
    "breakpoint",
    "help",
    "exit",
    "quit",
    "classmethod",
    "staticmethod",
    "memoryview",
    "reload",
    "callable",
    "print",
    "super",
    "dir",
    "iter",
    "next",
    "sorted",
    "max",
    "min",
    "sum",
    "any",
    "all",
];

/// Classes and functions that only make data.
const HARMLESS: &[(&str, &[&str])] = &[
    ("collections", &["OrderedDict", "defaultdict", "Counter", "deque", "ChainMap", "UserDict", "UserList"]),
    ("UserDict", &["UserDict", "IterableUserDict"]),
    ("_codecs", &["encode"]),
    ("copyreg", &["_reconstructor", "__newobj__", "__newobj_ex__"]),
    ("copy_reg", &["_reconstructor", "__newobj__", "__newobj_ex__"]),
    ("datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("_datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("uuid", &["UUID", "SafeUUID"]),
    ("io", &["BytesIO", "StringIO"]),
    ("_io", &["BytesIO", "StringIO"]),
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace", "MappingProxyType"]),
    ("random", &["Random"]),
    ("pathlib", PATHS),
    ("pathlib._local", PATHS),
    (
        "numpy",
        &[
            "dtype",
            "ndarray",
            "generic",
            "bool_",
            "bool",
            "float16",
            "float32",
            "float64",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "complex64",
            "complex128",
            "str_",
            "bytes_",
            "datetime64",
            "timedelta64",
            "matrix",
            "record",
            "recarray",
            "longdouble",
            "clongdouble",
            "void",
            "object_",
        ],
    ),
    ("numpy.random._pickle", &["__randomstate_ctor", "__bit_generator_ctor", "__generator_ctor"]),
    ("numpy.random", &["__RandomState_ctor"]),
    (
        "torch",
        &[
            "Size",
            "device",
            "Tensor",
            "Generator",
            "ScriptObject",
            "strided",
            "sparse_coo",
            "sparse_csr",
            "sparse_csc",
            "sparse_bsr",
            "sparse_bsc",
            "contiguous_format",
            "channels_last",
            "channels_last_3d",
            "preserve_format",
            "per_tensor_affine",
            "per_channel_affine",
            "per_tensor_symmetric",
            "per_channel_symmetric",
            "per_channel_affine_float_qparams",
        ],
    ),
    ("torch._utils", &["_rebuild_wrapper_subclass", "_rebuild_nested_tensor", "_rebuild_from_type_v2"]),
    ("torch._tensor", &["_rebuild_from_type_v2", "_rebuild_from_type"]),
    ("torch.tensor", &["_rebuild_from_type"]),
    ("torch.nn.parameter", &["Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.storage", &["_load_from_bytes"]),
    (
        "torch.jit._pickle",
        &[
            "build_intlist",
            "build_tensorlist",
            "build_boollist",
            "build_doublelist",
            "restore_type_tag",
            "build_tensor_from_id",
        ],
    ),
    ("torch.nn.backends.thnn", &["_get_thnn_function_backend"]),
    ("torch._C", &["Generator", "ScriptObject"]),
    ("torch.utils.hooks", &["RemovableHandle"]),
    ("torch.distributed.algorithms.join", &["_JoinConfig"]),
    ("torch.distributed.tensor", &["DTensor"]),
    ("torch.distributed._tensor.api", &["DTensor"]),
    ("torch.distributed.device_mesh", &["DeviceMesh"]),
    ("torch.distributed._mesh_layout", &["_FlatLayout", "_MeshLayout"]),
    ("torch.distributed.tensor._dtensor_spec", &["DTensorSpec", "TensorMeta", "ShardOrderEntry"]),
    ("torch.distributed._tensor.placement_types", PLACEMENTS),
    ("torch.distributed.tensor.placement_types", PLACEMENTS),
    ("torch.nested._internal.nested_tensor", &["NestedTensor", "_rebuild_njt"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pcg64", &["PCG64", "PCG64DXSM"]),
    ("numpy.random._philox", &["Philox"]),
    ("numpy.random._sfc64", &["SFC64"]),
    ("numpy.random.bit_generator", &["SeedSequence", "__pyx_unpickle_SeedSequence"]),
    ("numpy.ma", &["MaskedArray"]),
    ("numpy.ma.core", &["MaskedArray"]),
    ("numpy.rec", &["recarray", "record"]),
];

const PLACEMENTS: &[&str] =
    &["Shard", "_StridedShard", "Replicate", "Partial", "_Partial", "DTensorSpec", "TensorMeta"];

const PATHS: &[&str] = &["PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath"];

/// Packages of PyTorch whose classes are layers, optimizers and schedulers: their instances are data with methods.
const HARMLESS_PREFIXES: &[&str] = &[
    "torch.nn.modules.",
    "torch.nn.parallel.",
    "torch.nn.utils.",
    "torch.nn.qat.",
    "torch.optim.",
    "torch.ao.nn.",
    "torch.nn.quantized.",
    "torch.nn.intrinsic.",
    "torch.nn.qat.",
    "torch.distributions.",
    "torchvision.models.",
    "torchvision.transforms.",
    "torchvision.ops.",
    "__torch__.",
];

/// Judges a class or function by its names.
pub fn verdict(global: &Global) -> Verdict {
    let (module, name) = (global.module.as_str(), global.name.as_str());
    if matches!(module, "builtins" | "__builtin__" | "__builtins__") {
        let plain = name.split('.').next().unwrap_or(name);
        return match () {
            () if HARMLESS_BUILTINS.contains(&name) => Verdict::Harmless,
            () if DANGEROUS_BUILTINS.contains(&plain) || name.contains('.') || name.starts_with("__") => {
                Verdict::RunsCode
            }
            () => Verdict::Unknown,
        };
    }
    let within =
        |package: &&str| module == *package || module.strip_prefix(*package).is_some_and(|rest| rest.starts_with('.'));
    let listed = HARMLESS.iter().any(|(at, names)| *at == module && names.contains(&name));
    if listed {
        return Verdict::Harmless;
    }
    if DANGEROUS_MODULES.iter().any(within) || DANGEROUS.contains(&(module, name)) {
        return Verdict::RunsCode;
    }
    // A dotted name reaches into a module's own imports: `torch.serialization` has `os.system`.
    if name.contains('.')
        && name.split('.').any(|part| DANGEROUS_MODULES.contains(&part) || DANGEROUS_BUILTINS.contains(&part))
    {
        return Verdict::RunsCode;
    }
    let class =
        name.trim_start_matches('_').starts_with(|first: char| first.is_ascii_uppercase()) && !name.contains('.');
    let known = HARMLESS_PREFIXES.iter().any(|prefix| module.starts_with(prefix)) && class
        || dtypes::by_global(global).is_some()
        || dtypes::of_storage(global).is_some()
        || dtypes::of_tensor(global).is_some()
        || tensors::knows(module, name)
        || numpy::knows(module, name)
        || module == "numpy.dtypes" && class
        || module == "torch.nn.functional" && !name.contains('.');
    if known { Verdict::Harmless } else { Verdict::Unknown }
}
