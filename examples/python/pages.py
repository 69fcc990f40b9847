#!/usr/bin/env python3
"""Stores pages in a zswap and loads them again, through ctypes and the C library, with nothing to compile.

    python3 examples/python/pages.py                       # the installed library
    cargo build --release && python3 examples/python/pages.py target/release/libzsalloc.so
"""
import ctypes, ctypes.util, json, sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p

PAGE = 4096
KEEP = 0  # A flag of zswap_load(): the page stays stored.
name = sys.argv[1] if len(sys.argv) > 1 else ctypes.util.find_library("zsalloc")
if name is None:
    sys.exit("libzsalloc is not installed; give the path of libzsalloc.so as an argument")
lib = ctypes.CDLL(name)
lib.zs_last_error.restype = c_char_p


def function(name, *arguments):
    """Returns a C function that raises an OSError with the library's own sentence if it fails."""
    def check(result, *_):
        if result != 0:
            raise OSError(-result, lib.zs_last_error().decode())
    function = getattr(lib, name)
    function.argtypes, function.restype, function.errcheck = arguments, c_int, check
    return function


create = function("zswap_create", c_void_p, POINTER(c_void_p))
add_area = function("zswap_add_area", c_void_p, c_uint64, c_void_p, POINTER(c_void_p))
store = function("zswap_store", c_void_p, c_uint64, c_char_p)
load = function("zswap_load", c_void_p, c_uint64, c_char_p, c_uint32)
stats_json = function("zswap_stats_json", c_void_p, c_char_p, c_size_t, POINTER(c_size_t))
remove_area, destroy = function("zswap_remove_area", c_void_p), function("zswap_destroy", c_void_p)

zswap, area, length = c_void_p(), c_void_p(), c_size_t()
create(None, byref(zswap))
add_area(zswap, 1000, None, byref(area))  # A thousand pages: what a swap device or a guest has.

pages = [(b"page %d of a thousand. " % number * 200)[:PAGE] for number in range(1000)]
for offset, page in enumerate(pages):
    store(area, offset, page)
buffer = ctypes.create_string_buffer(PAGE)
for offset, page in enumerate(pages):
    load(area, offset, buffer, KEEP)
    assert buffer.raw == page, f"page {offset} is wrong"
try:
    load(area, 1000, buffer, KEEP)
except OSError as error:
    print(f"refused: {error}")
else:
    sys.exit("a page past the end of the area was loaded")

text = ctypes.create_string_buffer(65536)
stats_json(zswap, text, len(text), byref(length))
stats = json.loads(text.value)["zswap"]
held = stats["pool_bytes"] + stats["metadata_bytes"]
print(f"{stats['counts']['compressed_pages']} pages, {len(pages) * PAGE} bytes, take {held} bytes")
remove_area(area)
destroy(zswap)
