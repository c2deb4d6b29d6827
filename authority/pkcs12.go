package authority

import (
	"crypto/x509"
	"errors"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// severalKeys is how the library says that there is more than one key: it has
// no sentinel for it. Should its words change, the message gets less precise.
const severalKeys = "exactly one key bag"

// errPKCS12 stands for a panic of the library.
var errPKCS12 = errors.New("it is damaged")

// readPKCS12 opens a file of RFC 7292 in DER, be it protected by the old
// ciphers (RC2, 3DES) or by those of OpenSSL 3 and Windows (AES, SHA-256). The
// empty password is tried first, which many files have.
func readPKCS12(path string, der []byte, pw *password) (bundle, error) {
	out, err := decodePKCS12(der, "")
	if err == nil {
		return out, nil
	}
	if wrongPassword(err) || !pw.ref.IsZero() {
		text, refused := pw.read(path)
		if refused != nil {
			return bundle{}, refused
		}
		if out, err = decodePKCS12(der, text); err == nil {
			return out, nil
		}
	}
	const again = "openssl pkcs12 -in app.pfx -out app.pem -nodes, then name app.pem"
	switch {
	case wrongPassword(err):
		return bundle{}, &trouble{
			what:   path + " does not open with the password from " + pw.ref.String(),
			remedy: "put the password that the PKCS#12 file was exported with there; to try it: openssl pkcs12 -in " + path + " -info -noout",
		}
	case strings.Contains(err.Error(), severalKeys):
		return bundle{}, &trouble{
			what:   path + " holds several private keys",
			remedy: "export again only the certificate that the application is to show, with its key",
		}
	}
	return bundle{}, &trouble{
		what:   path + " cannot be read as PKCS#12",
		remedy: "export it again with one key and its certificate, or convert it: " + again,
		cause:  err,
	}
}

// wrongPassword tells a wrong password from other trouble. The second error
// comes of files without a MAC.
func wrongPassword(err error) bool {
	return errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
}

func decodePKCS12(der []byte, password string) (out bundle, err error) {
	if err := affordable(der, 0); err != nil {
		return bundle{}, err
	}
	defer func() {
		if recover() != nil {
			out, err = bundle{}, errPKCS12
		}
	}()
	parsed, first, others, err := pkcs12.DecodeChain(der, password)
	if err != nil {
		return bundle{}, err
	}
	key, err := newKey(parsed)
	if err != nil {
		return bundle{}, err
	}
	return bundle{
		certificates: append([]*x509.Certificate{first}, others...),
		keys:         []sealedKey{{key: key}},
	}, nil
}
