"""The one C extension; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

LIMITED_API = (3, 11)  # the first with the buffer protocol in the limited API; pyproject.toml's first Python

codec = Extension(
    "datasets_tools.jpeg._codec",
    sources=sorted(str(file) for file in Path("datasets_tools/jpeg").glob("*.c")),
    depends=sorted(str(file) for file in Path("datasets_tools/jpeg").glob("*.h")),
    libraries=["jpeg"],
    define_macros=[("Py_LIMITED_API", f"0x{LIMITED_API[0]:02x}{LIMITED_API[1]:02x}0000")],
    extra_compile_args=[
        "-O3",
        "-std=c11",
        "-ffp-contract=off",  # Clang would fuse multiply and add on ARM: resampling has the same bits on every machine
        "-Wall",
        "-Wextra",
        "-fvisibility=hidden",
    ],
    py_limited_api=True,
    optional=True,  # without libjpeg's headers the install goes on; what needs the extension names the line that helps
)

setup(
    ext_modules=[codec],
    exclude_package_data={"datasets_tools.jpeg": ["*.c", "*.h"]},
    options={"bdist_wheel": {"py_limited_api": f"cp{LIMITED_API[0]}{LIMITED_API[1]}"}},
)
