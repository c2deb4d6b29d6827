#!/usr/bin/env bash
# dist.sh DIR VERSION OS/ARCH...: the release of the last commit, in DIR. The
# same commit and version give the same bytes wherever it runs, so whatever
# depends on time, place, user or machine is pinned or taken out here.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { echo "usage: $0 DIR VERSION OS/ARCH..."; exit 2; }
mkdir -p "$1"
dist=$(cd "$1" && pwd) version=$2
shift 2
SBOM=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
[[ $version =~ ^[0-9A-Za-z][0-9A-Za-z.+-]*$ ]] || { echo "VERSION $version cannot be part of a file's name"; exit 2; }
for tool in git jq zip gzip sha256sum; do
  command -v "$tool" >/dev/null || { echo "the release needs $tool; install it"; exit 1; }
done
grep -q 'GNU tar' <<<"$(tar --version 2>/dev/null)" || { echo "the release needs GNU tar as tar; install it"; exit 1; }
[ -z "$(ls -A "$dist")" ] || { echo "$dist has files of an earlier release; make clean first"; exit 1; }
if [ -n "$(git status --porcelain)" ] && [[ $version != *-dirty ]]; then
  echo "the work tree has changes that $version does not have; commit them, or end VERSION in -dirty"
  exit 1
fi

GOTOOLCHAIN=$(awk '$1 == "toolchain" {print $2}' go.mod)
export GOTOOLCHAIN LC_ALL=C TZ=UTC CGO_ENABLED=0 GOFLAGS=-trimpath GOWORK=off GOEXPERIMENT= GOFIPS140=off GOAMD64=v1 GOARM64=v8.0
epoch=$(git log -1 --format=%ct)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # compile FILE: for GOOS and GOARCH
  go build -buildvcs=true -ldflags "-s -w -X main.version=$version" -o "$1" ./cmd/gateway
}

mkdir "$work/dist"

# What every archive has beside the binary.
mkdir -p "$work/common/completions"
cp -R README.md CHANGELOG.md CONTRIBUTING.md docs deploy "$work/common/" # README's links lead there
for licence in LICENSE* NOTICE*; do [ ! -f "$licence" ] || cp "$licence" "$work/common/"; done
sed "1s/.*/.TH GATEWAY 1 $(date -d "@$epoch" +%F) \"gateway $version\" \"User Commands\"/" docs/reference/gateway.1 >"$work/common/gateway.1"
compile "$work/host"
for shell in bash/gateway.bash zsh/_gateway fish/gateway.fish powershell/gateway.ps1; do
  "$work/host" completion "${shell%/*}" >"$work/common/completions/${shell#*/}"
done
GOBIN=$work/bin go install "$SBOM"

# sbom BINARY FILE: the modules that are linked into the binary. The tool's own
# hashes depend on the machine that built it, so they are left out. Judged
# against what Go itself says of the binary.
sbom() {
  "$work/bin/cyclonedx-gomod" bin -json -noserial -notimestamp -std -version "$version" "$1" >"$work/sbom.json"
  jq -S 'del(.metadata.tools[].hashes)' "$work/sbom.json" >"$2"
  jq -r '.components[] | select(.name != "std") | .name + " " + .version' "$2" | sort >"$work/listed"
  go version -m "$1" | awk '$1 == "dep" {print $2, $3}' | sort >"$work/linked"
  diff "$work/linked" "$work/listed" || { echo "$2 does not list what is linked in"; exit 1; }
  grep -q '^github.com/golang-jwt/jwt/v5 v' "$work/listed" || { echo "$2 lacks golang-jwt"; exit 1; }
  jq -e --arg go "$(go env GOVERSION)" --arg version "$version" '.bomFormat == "CycloneDX"
    and .metadata.component.version == $version
    and any(.components[]; .name == "std" and .version == $go)' "$2" >/dev/null ||
    { echo "$2 lacks its format, its version or Go's"; exit 1; }
}

for target; do
  os=${target%/*} arch=${target#*/}
  name=gateway_${version}_${os}_$arch
  binary=gateway
  [ "$os" != windows ] || binary=gateway.exe
  cp -R "$work/common" "$work/$name"
  GOOS=$os GOARCH=$arch compile "$work/$name/$binary"
  sbom "$work/$name/$binary" "$work/dist/$name.cdx.json"
  chmod -R u=rwX,go=rX "$work/$name"
  find "$work/$name" -exec touch -h -d "@$epoch" {} +
  if [ "$os" = windows ]; then
    (cd "$work" && find "$name" | sort | zip -q -X -D -@ "$work/dist/$name.zip")
  else
    tar -C "$work" --format=ustar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$name" |
      gzip -9n >"$work/dist/$name.tar.gz"
  fi
  rm -rf "${work:?}/$name"
done
(cd "$work/dist" && sha256sum -- * >"$work/sums")
# All or nothing: until here DIR is empty.
cp "$work/dist"/* "$dist/"
cp "$work/sums" "$dist/SHA256SUMS"
cat "$dist/SHA256SUMS"
