#!/usr/bin/env bash
# Builds a release of the last commit twice, in two places that differ in path,
# umask, time zone and age of the files, and looks through what came out.
# Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
for tool in git jq zip unzip mandoc; do
  command -v "$tool" >/dev/null || need+=("$tool")
done
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "the release: $1"; exit 1; }

version=v0.0.0-rehearsal.1
arch=$(go env GOHOSTARCH)
source=$PWD
if ! git rev-parse -q --verify HEAD >/dev/null 2>&1; then # sources without their history
  source=$dir/source
  cp -R . "$source"
  git -C "$source" init -q
  git -C "$source" add -A
  git -C "$source" -c user.name=release -c user.email=release@localhost commit -qm 'the sources as they are'
fi
make_release() { # make_release FOLDER: from a clone of its own
  git -c safe.directory='*' clone -q "$source" "$dir/$1/clone"
  find "$dir/$1/clone" -path '*/.git' -prune -o -type f -exec touch -d "$2" {} +
  make -s -C "$dir/$1/clone" release VERSION=$version DIST="$dir/$1/dist" TARGETS="linux/$arch windows/arm64" >"$dir/$1.log" 2>&1 ||
    { cat "$dir/$1.log"; fail "make release failed"; }
}
(umask 022 && TZ=UTC make_release one '2001-01-01')
(umask 077 && TZ=Asia/Kolkata GOFLAGS=-buildvcs=false make_release a/longer/way/to/two 'now')
diff -r "$dir/one/dist" "$dir/a/longer/way/to/two/dist" || fail "two builds of one commit differ"

cd "$dir/one/dist"
linux=gateway_${version}_linux_$arch windows=gateway_${version}_windows_arm64
want="SHA256SUMS $linux.cdx.json $linux.tar.gz $windows.cdx.json $windows.zip"
[ "$(ls | LC_ALL=C sort | xargs)" = "$want" ] || fail "dist has $(ls | xargs), want $want"
sha256sum -c --quiet --strict SHA256SUMS || fail "a checksum is wrong"
[ "$(wc -l <SHA256SUMS)" = 4 ] || fail "SHA256SUMS has not every file"
mkdir "$dir/out"
tar -xzf "$linux.tar.gz" -C "$dir/out"
unzip -q "$windows.zip" -d "$dir/out"
cd "$dir/out"
for name in "$linux" "$windows"; do
  for file in README.md CHANGELOG.md docs/troubleshooting.md deploy/systemd/gateway.service gateway.1 completions/gateway.bash completions/_gateway completions/gateway.fish completions/gateway.ps1; do
    [ -s "$name/$file" ] || fail "$name lacks $file"
  done
done
[ -x "$linux/gateway" ] || fail "$linux/gateway is not executable"
ldd "$linux/gateway" >/dev/null 2>&1 && fail "$linux/gateway is not static"
said=$("$linux/gateway" version --json)
jq -e --arg v "$version" --arg r "$(git -C "$OLDPWD/../clone" rev-parse HEAD)" '.version == $v and .revision == $r' <<<"$said" >/dev/null ||
  fail "gateway version says $said"
about=$(go version -m "$windows/gateway.exe")
for setting in GOOS=windows GOARCH=arm64 CGO_ENABLED=0 -trimpath=true vcs.modified=false; do
  grep -qF -- "$setting" <<<"$about" || fail "$windows/gateway.exe is not built with $setting"
done
[ "$(head -c 2 "$windows/gateway.exe")" = MZ ] || fail "gateway.exe is no program of Windows"
grep -qF "$dir" "$linux/gateway" && fail "the binary names the folder it was built in"
mandoc -T lint -W warning "$linux/gateway.1" || fail "mandoc complains about gateway.1"
grep -qF "$version" <<<"$(mandoc -T ascii "$linux/gateway.1")" || fail "gateway.1 does not say its version"
bash -n "$linux/completions/gateway.bash" || fail "bash does not read its completions"
"$linux/gateway" completion fish | cmp - "$linux/completions/gateway.fish" || fail "the completions are not the binary's own"
# The two differ: Windows links what Linux does not.
lists() { jq -e --arg m "$2" 'any(.components[]; .name == $m)' "$dir/one/dist/$1.cdx.json" >/dev/null; }
trap_of_windows=github.com/inconshreveable/mousetrap
lists "$windows" "$trap_of_windows" && ! lists "$linux" "$trap_of_windows" || fail "an SBOM is not of its own binary"

# A failed release leaves nothing behind, and changes do not go by a commit's name.
echo >>"$dir/one/clone/README.md"
"$dir/one/clone/.ci/dist.sh" "$dir/none" v1.2.3 "linux/$arch" >"$dir/refused" 2>&1 && fail "changes were released as v1.2.3"
grep -q 'work tree has changes' "$dir/refused" && [ -z "$(ls "$dir/none")" ] || { cat "$dir/refused"; fail "changes are refused in other words"; }
echo "the release is the same bytes twice ($(du -sh "$dir/one/dist" | cut -f1)), and all of it is in order"
