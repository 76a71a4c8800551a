"""Writes the comments of a FileDescriptorSet as JSON, by full name; see generate.sh."""

import json
import sys

from google.protobuf import descriptor_pb2

# Numbers of fields in descriptor.proto, of which the paths of comments are made.
FILE = {4: ("message_type", "message"), 5: ("enum_type", "enum"), 6: ("service", "service")}
INSIDE = {
    "message": {
        2: ("field", "field"),
        3: ("nested_type", "message"),
        4: ("enum_type", "enum"),
        8: ("oneof_decl", "oneof"),
    },
    "enum": {2: ("value", "value")},
    "service": {2: ("method", "method")},
}


def main():
    """Write the comments of what is read."""
    comments = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(sys.stdin.buffer.read()).file:
        for location in file.source_code_info.location:
            if location.leading_comments:
                name = named(file, list(location.path))
                if name is not None:
                    comments[name] = " ".join(location.leading_comments.split())
    json.dump(comments, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    print()


def named(file, path):
    """Return the full name of what a path leads to; None for what has none."""
    names, at, kinds = [file.package], file, FILE
    while path:
        number, *path = path
        if number not in kinds or not path:
            return None
        field, kind = kinds[number]
        index, *path = path
        at = getattr(at, field)[index]
        names.append(at.name)
        kinds = INSIDE.get(kind, {})
    return ".".join(names)


if __name__ == "__main__":
    main()
