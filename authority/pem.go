package authority

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/youmark/pkcs8"

	"github.com/seed-13b04e61/gateway/secrets"
)

// bundle is what a file holds of certificates and keys.
type bundle struct {
	certificates []*x509.Certificate
	keys         []sealedKey
}

// sealedKey is a private key as a file has it: a PEM block that may be
// encrypted, or what was found in a PKCS#12 file.
type sealedKey struct {
	block *pem.Block
	key   privateKey // when block is nil
}

// password opens what is encrypted, and knows afterwards whether it had to.
// It is read when it is needed only.
type password struct {
	ref  secrets.Ref
	used bool
}

// read returns the password for path.
func (p *password) read(path string) (string, error) {
	if p.ref.IsZero() {
		return "", &trouble{
			what:   path + " is encrypted and there is no password for it",
			remedy: "name its password under client_certificate.password, as {env: NAME} or {file: PATH}",
		}
	}
	secret, err := p.ref.Read()
	if err != nil {
		return "", &trouble{
			what:   "client_certificate.password",
			remedy: supply("the password of "+path, p.ref),
			cause:  err,
		}
	}
	p.used = true
	return secret.Reveal(), nil
}

// readBundle reads PEM or PKCS#12, which it tells apart by content. name is
// the key of routes.yaml that named the file.
func readBundle(name, path string, pw *password) (bundle, error) {
	content, err := secrets.ReadFile(path)
	if err != nil {
		return bundle{}, &trouble{what: name + " cannot be read", remedy: "name a readable file, PEM or PKCS#12", cause: err}
	}
	switch {
	case bytes.Contains(content, []byte("-----BEGIN ")):
		return readPEM(path, content)
	case startsDER(content, 3):
		return readPKCS12(path, content, pw)
	}
	return bundle{}, unreadable(path, content)
}

// readPEM keeps certificates and private keys and passes over all else.
func readPEM(path string, rest []byte) (bundle, error) {
	var out bundle
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return bundle{}, &trouble{what: path + " holds a damaged certificate", remedy: "export it again, as PEM", cause: err}
			}
			out.certificates = append(out.certificates, cert)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			out.keys = append(out.keys, sealedKey{block: block})
		}
	}
}

// startsDER tells whether content is a DER or BER sequence that begins with
// the small integer version, as PKCS#12 (3), PKCS#8 (0) and SEC1 (1) do. The
// rest may be damaged.
func startsDER(content []byte, version byte) bool {
	if len(content) < 2 || content[0] != 0x30 {
		return false
	}
	header := 2
	if content[1] > 0x80 {
		header += int(content[1] & 0x7f)
	}
	return len(content) > header && bytes.HasPrefix(content[header:], []byte{0x02, 0x01, version})
}

// unreadable tells the formats apart that are met where PEM is wanted.
func unreadable(path string, content []byte) error {
	if len(content) == 0 {
		return &trouble{what: path + " is empty", remedy: "put the certificate and its key there, as PEM"}
	}
	if _, err := x509.ParseCertificate(content); err == nil {
		return &trouble{
			what:   path + " is a certificate as DER, without a key",
			remedy: "convert it: openssl x509 -inform DER -in app.cer -out app.pem; the key goes into key_file",
		}
	}
	if startsDER(content, 0) || startsDER(content, 1) {
		return &trouble{
			what:   path + " looks like a private key as DER",
			remedy: "convert it: openssl pkey -inform DER -in app.der -out key.pem",
		}
	}
	if text := bytes.TrimSpace(content); len(text) > 0 && text[0] == '{' {
		return &trouble{what: path + " looks like JSON and is not PEM", remedy: "convert the JWK in it to PEM, and name that file"}
	}
	return &trouble{what: path + " is not PEM, nor PKCS#12", remedy: "export the certificate and its key as PEM"}
}

// errPBES2 stands for a panic of the library on ciphertext of odd length.
var errPBES2 = errors.New("it is damaged")

// open returns the key in path, decrypted if need be.
func (k sealedKey) open(path string, pw *password) (privateKey, error) {
	switch {
	case k.block == nil:
		return k.key, nil
	case strings.Contains(k.block.Headers["Proc-Type"], "ENCRYPTED"):
		// RFC 1421: the key comes from the password by one round of MD5, and
		// nothing tells a wrong password from a damaged file.
		return privateKey{}, &trouble{
			what:   "the private key in " + path + " is encrypted in the traditional way (Proc-Type: 4,ENCRYPTED), which is not supported",
			remedy: "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in " + path + " -out key.pem, and name the password under client_certificate.password",
		}
	case k.block.Type == "ENCRYPTED PRIVATE KEY":
		text, err := pw.read("the private key in " + path)
		if err != nil {
			return privateKey{}, err
		}
		parsed, err := decrypt(k.block.Bytes, text)
		if err != nil {
			return privateKey{}, &trouble{
				what:   "the private key in " + path + " does not open with the password from " + pw.ref.String(),
				remedy: "check the password; if it is right, convert the key: openssl pkcs8 -topk8 -v2 aes-256-cbc -in " + path + " -out key.pem",
				cause:  err,
			}
		}
		return newKey(parsed)
	}
	return parseKey(k.block)
}

// decrypt opens a PKCS#8 key that is encrypted by PBES2 (RFC 8018 §6.2).
func decrypt(der []byte, password string) (parsed any, err error) {
	if err := affordable(der, 0); err != nil {
		return nil, err
	}
	defer func() {
		if recover() != nil {
			parsed, err = nil, errPBES2
		}
	}()
	return pkcs8.ParsePKCS8PrivateKey(der, []byte(password))
}

// onlyKey returns the one key of those that path holds.
func onlyKey(path string, keys []sealedKey, pw *password) (privateKey, error) {
	if len(keys) != 1 {
		return privateKey{}, &trouble{
			what:   fmt.Sprintf("%s holds %d private keys", path, len(keys)),
			remedy: "put exactly one PEM private key there, or name its file under key_file",
		}
	}
	return keys[0].open(path, pw)
}
