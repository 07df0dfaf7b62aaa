"""Writes ../proto.rs from onnx-ml.proto and onnx-data.proto, which are those of the ONNX project (version 1.23).

    python3 crates/state/src/onnx/messages/generate.py && cargo fmt -p rekindle-state

Every field of every message is there, so that a file that is read and written loses nothing. Scalars without a value have their
default, as in the project's own onnx.proto3; `raw_data` alone tells absent from empty, since an empty tensor may have either.
"""
import re
from pathlib import Path

HERE = Path(__file__).parent
# Nested messages by the names that they have in Rust.
NAMES = {"TypeProto.Tensor": "TensorType", "TypeProto.Sequence": "SequenceType", "TypeProto.Map": "MapType",
         "TypeProto.Optional": "OptionalType", "TypeProto.SparseTensor": "SparseTensorType", "TypeProto.Opaque": "OpaqueType",
         "TensorShapeProto.Dimension": "Dimension", "TensorProto.Segment": "Segment"}
ENUMS = {"AttributeProto.AttributeType": "attribute", "TensorProto.DataType": "data_type", "TensorProto.DataLocation": "data_location",
         "Version": "version", "OperatorStatus": "operator_status",
         "SequenceProto.DataType": "sequence_type", "OptionalProto.DataType": "optional_type"}
ONEOFS = {"TypeProto": "type_proto", "TensorShapeProto.Dimension": "dimension", "ShardedDimProto": None, "SimpleShardedDimProto": "simple_sharded_dim"}
BOXED = {("TypeProto.Sequence", "elem_type"), ("TypeProto.Map", "value_type"), ("TypeProto.Optional", "elem_type"),
         ("OptionalProto", "optional_value"), ("TypeProto", "optional_type")}
SCALARS = {"int32": "i32", "int64": "i64", "uint64": "u64", "float": "f32", "double": "f64", "string": "String", "bytes": "Bytes", "bool": "bool"}


def tokens(text):
    """Comments and the other tokens."""
    for match in re.finditer(r"//[^\n]*|\"[^\"]*\"|[\w.]+|[{}=;\[\],]|-", text):
        yield match.group(0)


class Message:
    def __init__(self, path, doc):
        self.path, self.doc, self.fields, self.oneofs, self.nested, self.enums = path, doc, [], {}, [], []


def sentence(comments, fallback):
    text = " ".join(comment.lstrip("/ ").strip() for comment in comments)
    text = re.split(r"(?<=[a-z)`])\. |\.$|<a|----", text)[0].strip().rstrip(":.,")
    text = re.sub(r"[\[\]<>]", "", text)
    text = re.sub(r"\s+", " ", text)
    return (text[:1].upper() + text[1:] + ".") if len(text) > 3 else fallback


def parse(text):
    """Messages and enums of a file; comments before a thing belong to it."""
    stream = list(tokens(text))
    at = 0
    top, enums = [], []

    def enum(name, doc):
        nonlocal at
        at += 1
        values, comments = [], []
        while stream[at] != "}":
            token = stream[at]
            if token.startswith("//"):
                comments.append(token); at += 1
            elif token in ("reserved", "option"):
                while stream[at] != ";": at += 1
                at += 1
            else:
                value = stream[at + 2]
                at += 4
                values.append((token, value, comments)); comments = []
        at += 1
        enums.append((name, values, doc))

    def message(path, doc):
        nonlocal at
        out = Message(path, doc)
        at += 1
        comments, oneof = [], None
        while True:
            token = stream[at]
            if token == "}":
                at += 1
                if oneof is None: break
                oneof = None
                comments = []
            elif token.startswith("//"):
                comments.append(token); at += 1
            elif token == ";":
                at += 1
            elif token in ("reserved", "option", "extensions"):
                while stream[at] != ";": at += 1
                at += 1; comments = []
            elif token == "message":
                name = stream[at + 1]; at += 2
                top.append(message(f"{path}.{name}", comments)); comments = []
            elif token == "enum":
                name = stream[at + 1]; at += 2
                enum(f"{path}.{name}", comments); comments = []
            elif token == "oneof":
                oneof = stream[at + 1]; at += 3
                out.oneofs[oneof] = []
                if oneof not in [f[0] for f in out.fields]: out.fields.append((oneof, "oneof", None, None, comments))
                comments = []
            else:
                label = token if token in ("optional", "repeated", "required") else None
                if label: at += 1
                kind, name, tag = stream[at], stream[at + 1], int(stream[at + 3])
                at += 4
                packed = False
                if stream[at] == "[":
                    while stream[at] != "]":
                        packed |= stream[at] == "packed"; at += 1
                    at += 1
                at += 1
                field = (name, kind, label or "oneof", (tag, packed), comments)
                if oneof: out.oneofs[oneof].append(field)
                else: out.fields.append(field)
                comments = []
        return out

    comments = []
    while at < len(stream):
        token = stream[at]
        if token.startswith("//"):
            comments.append(token); at += 1
        elif token == "message":
            name = stream[at + 1]; at += 2
            top.append(message(name, comments)); comments = []
        elif token == "enum":
            name = stream[at + 1]; at += 2
            enum(name, comments); comments = []
        else:
            at += 1
            comments = []
    return top, enums


def rust_name(path):
    return NAMES.get(path, path.rsplit(".", 1)[-1])


def resolve(kind, path, known, enums):
    """What a type name means inside a message."""
    scope = path.split(".")
    for depth in range(len(scope), -1, -1):
        name = ".".join(scope[:depth] + [kind])
        if name in known: return ("message", rust_name(name))
        if name in enums: return ("int32", "i32")
    raise SystemExit(f"unknown type {kind} in {path}")


def emit(messages, enums):
    known, enum_names = {m.path for m in messages}, {e[0] for e in enums}
    out = ["//! The messages of `onnx-ml.proto` and `onnx-data.proto`, with their field numbers and names, every field of them.",
           "//!", "//! Written by `messages/generate.py`: change that.", "",
           "#![allow(clippy::doc_markdown, clippy::too_long_first_doc_paragraph, clippy::doc_lazy_continuation)]", "",
           "use prost::bytes::Bytes;", "use prost::{Message, Oneof};", ""]
    modules = {}
    for m in messages:
        name = rust_name(m.path)
        out.append(f"/// {sentence(m.doc, f'The message `{name}`.')}")
        out.append("#[derive(Clone, PartialEq, Message)]")
        out.append(f"pub struct {name} {{")
        for field, kind, label, extra, comments in m.fields:
            rust = "r#type" if field == "type" else field
            out.append(f"    /// {sentence(comments, f'The field `{field}`.')}")
            if kind == "oneof":
                module = ONEOFS.get(m.path) or re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
                variant = "Value" if field == "value" else field.title().replace("_", "")
                tags = ", ".join(str(f[3][0]) for f in m.oneofs[field])
                out.append(f'    #[prost(oneof = "{module}::{variant}", tags = "{tags}")]')
                out.append(f"    pub {rust}: Option<{module}::{variant}>,")
                modules.setdefault(module, []).append((variant, m, field))
                continue
            tag, packed = extra
            proto, of = (kind, SCALARS[kind]) if kind in SCALARS else resolve(kind, m.path, known, enum_names)
            if proto == "bytes": proto = 'bytes = "bytes"'
            boxed = (m.path, field) in BOXED
            if label == "repeated":
                numeric = proto in ("int32", "int64", "uint64", "float", "double")
                note = ', packed = "false"' if numeric and not packed else ""
                out.append(f'    #[prost({proto}, repeated{note}, tag = "{tag}")]')
                out.append(f"    pub {rust}: Vec<{of}>,")
            elif proto == "message":
                out.append(f'    #[prost(message, optional{", boxed" if boxed else ""}, tag = "{tag}")]')
                out.append(f"    pub {rust}: Option<{f'Box<{of}>' if boxed else of}>,")
            elif field == "raw_data":
                out.append(f'    #[prost({proto}, optional, tag = "{tag}")]')
                out.append(f"    pub {rust}: Option<{of}>,")
            else:
                out.append(f'    #[prost({proto}, tag = "{tag}")]')
                out.append(f"    pub {rust}: {of},")
        out += ["}", ""]
    for module, oneofs in modules.items():
        out += [f"/// One of several kinds of `{rust_name(oneofs[0][1].path)}`.", f"pub mod {module} {{", "    use super::*;", ""]
        for variant, m, field in oneofs:
            out += [f"    /// {variant}.", "    #[derive(Clone, PartialEq, Oneof)]", f"    pub enum {variant} {{"]
            for name, kind, _, (tag, _), comments in m.oneofs[field]:
                proto, of = (kind, SCALARS[kind]) if kind in SCALARS else resolve(kind, m.path, known, enum_names)
                if proto == "bytes": proto = 'bytes = "bytes"'
                boxed = (m.path, name) in BOXED
                out.append(f"        /// {sentence(comments, f'The field `{name}`.')}")
                out.append(f'        #[prost({proto}{", boxed" if boxed else ""}, tag = "{tag}")]')
                out.append(f"        {name.title().replace('_', '')}({f'Box<{of}>' if boxed else of}),")
            out += ["    }"]
        out += ["}", ""]
    for path, values, doc in enums:
        if path not in ENUMS: raise SystemExit(f"no module for the enum {path}")
        out += [f"/// Numbers of `{path}`.", f"pub mod {ENUMS[path]} {{"]
        for name, value, comments in values:
            out += [f"    /// {sentence(comments, f'`{name}`.')}", f"    pub const {name}: i32 = {value};"]
        out += ["}", ""]
    return "\n".join(out)


def main():
    messages, enums = [], []
    for file in ("onnx-ml.proto", "onnx-data.proto"):
        found = parse((HERE / file).read_text())
        messages += found[0]
        enums += found[1]
    (HERE.parent / "proto.rs").write_text(emit(messages, enums))


main()
