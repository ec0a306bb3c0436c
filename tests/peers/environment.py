"""The peers' own environment, outside the product's dependencies: a virtual environment and npm packages in one folder.

PyPI has no CPU build of torch for x86-64 Linux. Its CUDA build needs CUDA's shared libraries only to be *loaded*, so
instead of 2 GB of NVIDIA packages this gives it empty ones: every CUDA function it names answers "no device" (100).
The CPU code is the same as in PyTorch's CPU build; it is not touched.
"""
import pathlib, re, shutil, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
NPM = ("onnxruntime-web@1.30.0", "playwright-core@1.65.1")
CUDA = r"(?:cu|nv|nccl)"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def stub_cuda(lib):
    """Writes the CUDA libraries that the torch libraries in folder `lib` link to and that are not installed."""
    torch = [*lib.glob("lib*torch*.so"), *lib.glob("libc10_cuda.so")]
    needed, symbols, versions = set(), set(), {}
    for path in torch:
        needed |= set(re.findall(rf"NEEDED.*\[(lib{CUDA}.*?)\]", output("readelf", "-d", path)))
        symbols |= set(re.findall(rf" U (_*{CUDA}\w+)(?:@(\S+))?", output("nm", "-D", "-u", path)))
        versions |= re.findall(rf"File: (lib{CUDA}\S+)\s+Cnt: 1\n.*?Name: (\S+)", output("readelf", "-V", "-W", path))
    script = lib / "stub.version"
    for name in needed:
        version = versions.get(name, "")
        source = "".join(f"int {s}(void) {{ return 100; }}\n" for s, v in sorted(symbols) if v in ("", version))
        script.write_text(f"{version or name} {{ global: *; }};\n")
        subprocess.run(["cc", "-w", "-shared", "-fPIC", "-o", lib / name, f"-Wl,-soname,{name}",
                        f"-Wl,--version-script={script}", "-x", "c", "-"], input=source, text=True, check=True)


def python(work):
    """The interpreter of the environment in folder `work`, which is made on the first call or when the pins change."""
    venv, pins = work / "venv", HERE / "requirements.txt"
    python, stamp = venv / "bin" / "python", venv / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        print(f"making {venv} (at first one download of about 600 MB)", file=sys.stderr)
        if not stamp.exists():      # nothing, or what was interrupted
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        stamp.unlink(missing_ok=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", pins], check=True, stdout=sys.stderr)
        lib = pathlib.Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        if (lib / "torch/lib/libtorch_cuda.so").exists():
            stub_cuda(lib / "torch" / "lib")
        shutil.copy(pins, stamp)
    return python


def node_modules(work):
    """The folder of the npm packages in folder `work`, installed on the first call or when the pins change."""
    web = work / "web"
    stamp = web / "pins"
    if not stamp.exists() or stamp.read_text() != " ".join(NPM):
        web.mkdir(parents=True, exist_ok=True)
        (web / "package.json").write_text('{"private": true}\n')
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", *NPM], cwd=web, check=True, stdout=sys.stderr)
        stamp.write_text(" ".join(NPM))
    return web / "node_modules"
