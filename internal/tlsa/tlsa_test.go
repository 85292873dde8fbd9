package tlsa

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

func der(t *testing.T) (cert, key []byte) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<31, 0)}
	cert, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKIXPublicKey(priv.Public()); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestDefect(t *testing.T) {
	cert, key := der(t)
	d32, d64 := make([]byte, 32), make([]byte, 64)
	// A key of an algorithm that this program's libraries do not know (RFC 8410 §3).
	ed448 := append([]byte{0x30, 0x43, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x3a, 0x00}, make([]byte, 57)...)
	for _, tc := range []struct {
		r    Record
		want string
	}{
		{Record{DANEEE, SPKI, SHA2256, d32}, ""},
		{Record{DANEEE, Cert, SHA2256, d32}, ""},
		{Record{DANEEE, SPKI, SHA2512, d64}, ""},
		{Record{DANETA, Cert, SHA2256, d32}, ""},
		{Record{DANEEE, SPKI, Full, key}, ""},
		{Record{DANETA, Cert, Full, cert}, ""},
		{Record{DANEEE, SPKI, Full, ed448}, ""},
		{Record{DANEEE, Cert, Full, cert[:len(cert)-1]}, "DER"},
		{Record{DANEEE, SPKI, Full, append([]byte{}, append(key, 0)...)}, "DER"},
		{Record{DANEEE, SPKI, Full, []byte{2, 1, 5}}, "DER"},
		{Record{PKIXTA, Cert, SHA2256, d32}, "usage 0"},
		{Record{PKIXEE, SPKI, SHA2256, d32}, "usage 1"},
		{Record{4, SPKI, SHA2256, d32}, "usage 4"},
		{Record{255, SPKI, SHA2256, d32}, "usage 255"},
		{Record{DANEEE, 2, SHA2256, d32}, "selector 2"},
		{Record{DANEEE, SPKI, 3, d32}, "matching type 3"},
		{Record{DANEEE, SPKI, SHA2256, d64}, "64 octets"},
		{Record{DANEEE, SPKI, SHA2512, d32}, "32 octets"},
		{Record{DANEEE, SPKI, SHA2256, nil}, "0 octets"},
		{Record{DANEEE, SPKI, Full, nil}, "DER"},
	} {
		got := tc.r.Defect()
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%v: Defect() = %q, want %q", tc.r, got, tc.want)
		}
	}
}

func TestClassify(t *testing.T) {
	good := Record{DANEEE, SPKI, SHA2256, make([]byte, 32)}
	bad := Record{PKIXEE, SPKI, SHA2256, make([]byte, 32)}
	for _, tc := range []struct {
		set  []Record
		want Class
	}{
		{nil, None},
		{[]Record{bad}, Unusable},
		{[]Record{good}, Usable},
		{[]Record{bad, good}, Usable},
	} {
		if got := Classify(tc.set); got != tc.want {
			t.Errorf("Classify(%v) = %v, want %v", tc.set, got, tc.want)
		}
	}
}

// TestFingerprint: what can be said as a SHA-256 digest of the server's certificate
// or key, and what cannot.
func TestFingerprint(t *testing.T) {
	sequence := []byte{0x30, 0x03, 0x02, 0x01, 0x01}
	digest := bytes.Repeat([]byte{7}, 32)
	for _, tc := range []struct {
		record Record
		want   []byte
	}{
		{Record{DANEEE, SPKI, SHA2256, digest}, digest},
		{Record{DANEEE, Cert, SHA2256, digest}, digest},
		{Record{DANEEE, SPKI, Full, sequence}, hash(sequence)},
		{Record{DANEEE, Cert, Full, sequence}, hash(sequence)},
		{Record{DANEEE, SPKI, SHA2512, append(digest, digest...)}, nil},
		{Record{DANEEE, SPKI, SHA2256, digest[:31]}, nil},
		{Record{DANEEE, SPKI, Full, sequence[:4]}, nil},
		{Record{DANEEE, 2, SHA2256, digest}, nil},
		{Record{DANETA, SPKI, SHA2256, digest}, nil},
		{Record{DANETA, Cert, Full, sequence}, nil},
		{Record{PKIXEE, SPKI, SHA2256, digest}, nil},
	} {
		got, ok := tc.record.Fingerprint()
		if ok != (tc.want != nil) || ok && !bytes.Equal(got[:], tc.want) {
			t.Errorf("%v: %x, %v; want %x", tc.record, got, ok, tc.want)
		}
	}
}

func hash(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}
