#!/bin/sh
# Makes the files of this folder anew, by OpenSSL 3 and a JDK's keytool: what
# other people's tools write is what certificate.go has to read. The keys prove
# nothing to anybody. Every password is "correct horse".
set -eu
cd "$(dirname "$0")"
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
p='correct horse'
openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=openssl -keyout "$t/key.pem" -out "$t/cert.pem"
openssl pkcs12 -export -inkey "$t/key.pem" -in "$t/cert.pem" -passout "pass:$p" -out modern.p12
openssl pkcs12 -export -legacy -inkey "$t/key.pem" -in "$t/cert.pem" -passout "pass:$p" -out legacy.p12
openssl pkcs12 -export -inkey "$t/key.pem" -in "$t/cert.pem" -passout pass: -out empty.p12
openssl pkcs8 -topk8 -v2 aes-256-cbc -in "$t/key.pem" -passout "pass:$p" -out "$t/pbes2.pem"
openssl pkcs8 -topk8 -v2 aes-256-cbc -scrypt -in "$t/key.pem" -passout "pass:$p" -out "$t/scrypt.pem"
openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in "$t/key.pem" -passout "pass:$p" -out "$t/pbes1.pem"
openssl rsa -aes256 -traditional -in "$t/key.pem" -passout "pass:$p" -out "$t/traditional.pem"
for f in pbes2 scrypt pbes1 traditional; do cat "$t/cert.pem" "$t/$f.pem" > "$f.pem"; done
openssl req -x509 -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -sigopt rsa_pss_saltlen:32 -nodes -days 36500 -subj /CN=pss -keyout "$t/k" -out "$t/c"
cat "$t/c" "$t/k" > pss.pem
openssl genpkey -algorithm rsa-pss -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha512 -out "$t/k"
openssl req -x509 -key "$t/k" -sha512 -days 36500 -subj /CN=pss512 -out "$t/c"
cat "$t/c" "$t/k" > pss512.pem
for alias in one two; do
	keytool -genkeypair -alias "$alias" -keyalg RSA -keysize 2048 -validity 36500 -dname "CN=$alias" -storetype PKCS12 -keystore several.p12 -storepass "$p"
done
