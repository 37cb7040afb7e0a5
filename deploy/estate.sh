#!/usr/bin/env bash
# Makes a complete test estate: an authority of certificates, a directory, two
# application providers, an authority over numbers and an administrator, each
# with a certificate of its own, a revoked one, and the directory's settings.
#
#   deploy/estate.sh FOLDER        makes it; FOLDER must not exist
#
# Needs openssl 3, and blindbook in PATH or as $BLINDBOOK. For tests: the key of
# the authority stays in the folder, so that docs/runbook.md can issue and revoke.
set -euo pipefail

if (($# != 1)); then
  echo "usage: deploy/estate.sh FOLDER" >&2
  exit 2
fi
blindbook=${BLINDBOOK:-blindbook}
folder=$1
if [[ -e $folder ]]; then
  echo "$folder is there already: name another folder, or remove it" >&2
  exit 2
fi
for tool in openssl "$blindbook"; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is missing: install it, or set BLINDBOOK" >&2
    exit 2
  fi
done
umask 077
mkdir -p "$folder/ca"
folder=$(cd -- "$folder" && pwd)

# The authority, and its record of what it issued and revoked.
ca=$folder/ca
: >"$ca/index.txt"
echo 1000 >"$ca/serial"
echo 1000 >"$ca/crlnumber"
cat >"$ca/openssl.cnf" <<EOF
[ca]
default_ca = estate
[estate]
dir = $ca
database = \$dir/index.txt
serial = \$dir/serial
crlnumber = \$dir/crlnumber
new_certs_dir = \$dir
certificate = \$dir/ca.pem
private_key = \$dir/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = anything
copy_extensions = none
unique_subject = no
[anything]
commonName = supplied
EOF
new_key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
new_key "$ca/ca.key"
openssl req -x509 -new -key "$ca/ca.key" -subj "/CN=Blindbook test estate" -days 365 \
  -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
  -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$ca/ca.pem"

# issue NAME USAGE SAN: a key and a certificate in a folder of its own.
issue() {
  local name=$1 usage=$2 san=$3
  mkdir -p "$folder/$name"
  new_key "$folder/$name/key.pem"
  openssl req -new -key "$folder/$name/key.pem" -subj "/CN=$name" -out "$folder/$name/request.pem"
  openssl ca -batch -notext -config "$ca/openssl.cnf" -in "$folder/$name/request.pem" \
    -out "$folder/$name/cert.pem" -extfile <(printf '%s\n' "basicConstraints = CA:FALSE" \
      "keyUsage = digitalSignature" "extendedKeyUsage = $usage" "subjectAltName = $san" \
      "authorityKeyIdentifier = keyid" "subjectKeyIdentifier = hash") 2>/dev/null
  rm "$folder/$name/request.pem"
  cp "$ca/ca.pem" "$folder/$name/ca.pem"
}
issue directory serverAuth "DNS:localhost,IP:127.0.0.1"
issue wa clientAuth "URI:spiffe://wa.example/ap"
issue sg clientAuth "URI:spiffe://sg.example/ap"
issue numbers clientAuth "URI:spiffe://numbers.example/authority"
issue admin clientAuth "URI:spiffe://dp.example/admin"
issue revoked clientAuth "URI:spiffe://wa.example/ap"
openssl ca -config "$ca/openssl.cnf" -revoke "$folder/revoked/cert.pem" 2>/dev/null
openssl ca -config "$ca/openssl.cnf" -gencrl -out "$ca/crl.pem" 2>/dev/null
cp "$ca/crl.pem" "$folder/directory/client-crl.pem"

# The directory's keys, and each provider's key that signs its mappings.
"$blindbook" keygen --out "$folder/directory/keys" >/dev/null
for provider in wa sg; do
  "$blindbook" keygen --out "$folder/$provider/keys" >/dev/null
done
cat >"$folder/directory/blindbook.toml" <<EOF
data = "$folder/directory/data"
keys = "$folder/directory/keys"
listen = "127.0.0.1:4433"
probe_listen = "127.0.0.1:9433"
tls_cert = "$folder/directory/cert.pem"
tls_key = "$folder/directory/key.pem"
client_ca = "$folder/directory/ca.pem"
client_crl = "$folder/directory/client-crl.pem"
[registry]
development = true
code_spool = "$folder/directory/spool"
[[admin]]
uri = "spiffe://dp.example/admin"
alias = "operator"
EOF
echo "made: $folder"
