# What .ci/setup and .ci/run agree on: which tools, of which versions, where.
# Sourced, never run.

CARGO_FUZZ_VERSION=0.13.2
CARGO_DENY_VERSION=0.20.2

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
tools="$repo/.ci/tools"
buf="$tools/npm/node_modules/.bin/buf"
# Tools of this checkout come first, so that an older one of the user's, which is
# left alone, is never the one that judges.
export PATH="$tools/bin:$PATH"

# version_of COMMAND...: the first word of its answer that looks like a version.
version_of() {
  "$@" 2>/dev/null </dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1
}

# same_minor HAVE WANT: HAVE is WANT, or a later patch of the same minor version.
same_minor() {
  [[ -n $1 && ${1%.*} == "${2%.*}" && ${1##*.} -ge ${2##*.} ]]
}

has_fuzz() { same_minor "$(version_of cargo fuzz --version)" "$CARGO_FUZZ_VERSION"; }
has_deny() { same_minor "$(version_of cargo deny --version)" "$CARGO_DENY_VERSION"; }

buf_version_wanted() {
  sed -n 's/.*"@bufbuild\/buf": *"\([^"]*\)".*/\1/p' "$repo/.ci/package.json"
}
has_buf() { [[ -x $buf && $(version_of "$buf" --version) == "$(buf_version_wanted)" ]]; }

# npm_version PACKAGE: the version that is installed beside buf.
npm_version() {
  sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' \
    "$tools/npm/node_modules/$1/package.json" 2>/dev/null
}
npm_version_wanted() {
  sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$repo/.ci/package.json"
}
linters=(dclint dockerfile-utils)
has_linters() {
  local linter have
  for linter in "${linters[@]}"; do
    have=$(npm_version "$linter")
    [[ -n $have && $have == "$(npm_version_wanted "$linter")" ]] || return 1
  done
}

grpc_js_version_wanted() {
  sed -n 's/.*"@grpc\/grpc-js": *"\([^"]*\)".*/\1/p' "$repo/tests/node/package.json"
}
has_grpc_js() {
  local have
  have=$(sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' \
    "$repo/tests/node/node_modules/@grpc/grpc-js/package.json" 2>/dev/null)
  [[ -n $have && $have == "$(grpc_js_version_wanted)" ]]
}

has_cxx() { command -v "${CXX:-c++}" >/dev/null; }

# apart COMMAND...: runs it outside the package, whose .cargo/config.toml is
# about Blindbook's own code, not about the tools that check it.
apart() { (cd / && "$@"); }
