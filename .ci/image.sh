#!/usr/bin/env bash
# image.sh [VERSION]: builds the container image and runs it once. Where no registry with Go's
# image can be reached, the binary of the build stage is made by the local
# toolchain; the final stage is the Dockerfile's own, line for line.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-dev}
command -v buildah >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah >/dev/null
}
dir=$(mktemp -d)
box=(buildah --root "$dir/store" --runroot "$dir/run" --storage-driver vfs)
pid=
finish() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  "${box[@]}" umount --all >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap finish EXIT
mkdir "$dir/context"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$dir/context/gateway" ./cmd/gateway
sed -n '/^FROM scratch/,$p' Dockerfile | sed 's#^COPY --from=build /gateway#COPY gateway#' >"$dir/context/Containerfile"
"${box[@]}" bud -q --build-arg "VERSION=$version" --isolation chroot --format docker -t gateway -f "$dir/context/Containerfile" "$dir/context" >/dev/null
config=$("${box[@]}" inspect --type image gateway)
for want in '"User": "65532:65532"' '"Healthcheck"' '"/gateway"' "\"org.opencontainers.image.version\": \"$version\""; do
  grep -qF "$want" <<<"$config" || { echo "the image lacks $want"; exit 1; }
done
size=$(stat -c %s "$dir/context/gateway")
[ "$size" -lt $((25 << 20)) ] || { echo "the binary has $size bytes"; exit 1; }

name=$("${box[@]}" from gateway)
root=$("${box[@]}" mount "$name")
said=$(chroot --userspec=65532:65532 "$root" /gateway version)
[[ $said == "gateway $version ("* ]] || { echo "the image's gateway says $said, want $version"; exit 1; }
mkdir -p "$root/tmp" && chmod 1777 "$root/tmp"
chroot --userspec=65532:65532 "$root" /gateway sandbox --listen 127.0.0.1:0 --admin unix:/tmp/admin.sock </dev/null >"$dir/log" 2>"$dir/err" &
pid=$!
for _ in $(seq 100); do
  chroot --userspec=65532:65532 "$root" /gateway health --admin unix:/tmp/admin.sock >/dev/null 2>&1 && ready=yes && break
  sleep 0.1
done
[ "${ready:-}" = yes ] || { cat "$dir/log" "$dir/err"; echo "the image's gateway did not become ready"; exit 1; }
addr=$(grep -o 'http://127.0.0.1:[0-9]*/graph' "$dir/err" | head -1)
curl -sS "$addr/v1.0/users" | grep -q Adele
echo "the image of $version is built ($size bytes), runs as 65532, is healthy and serves"
