package authority

import (
	"encoding/asn1"
	"errors"
	"math/big"
)

const (
	// roundsLimit bounds what a password's key may cost: rounds, times the
	// key's length where that is written beside them. OpenSSL writes 2048,
	// careful people a million.
	roundsLimit = 1 << 25
	// scryptLimit bounds the three costs of scrypt, multiplied; times 128
	// bytes it is the memory that one needs (RFC 7914 §2).
	scryptLimit = 1 << 22
	// nestingLimit bounds how deep values are looked into.
	nestingLimit = 16
)

// errCostly says that opening a file could take for ever.
var errCostly = errors.New("the key is derived from the password in more rounds than are sensible")

// affordable refuses DER in which a salt is followed by senseless costs: that
// is how PBKDF2, scrypt, the older PBE and the MAC of PKCS#12 are written down
// (RFC 8018 §A, RFC 7914 §7, RFC 7292 §4), wherever they stand. What is
// damaged is left to the parsers, and what is encrypted cannot be seen.
func affordable(der []byte, depth int) error {
	var salted bool // the value before, costs aside, was an OCTET STRING
	var costs []*big.Int
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return nil
		}
		der = rest
		if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger && salted {
			costs = append(costs, new(big.Int).SetBytes(v.Bytes))
			if tooCostly(costs) {
				return errCostly
			}
			continue
		}
		costs = nil
		salted = v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString
		if depth < nestingLimit && (v.IsCompound || salted) {
			if err := affordable(v.Bytes, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func tooCostly(costs []*big.Int) bool {
	product := big.NewInt(1)
	for _, c := range costs {
		if c.BitLen() > 64 {
			return true
		}
		product.Mul(product, c)
	}
	limit := int64(roundsLimit)
	if len(costs) > 2 {
		limit = scryptLimit
	}
	return product.Cmp(big.NewInt(limit)) > 0
}
