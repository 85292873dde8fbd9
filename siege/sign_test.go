package siege

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zones are signed with one key, each answer anew, so that there may be any number of
// names: what is denied is denied name by name (RFC 9824 §2).
type zoneKey struct {
	once    sync.Once
	err     error
	public  string
	private *ecdsa.PrivateKey
}

var signer zoneKey // made on first use, never changed after that

func (k *zoneKey) make() error {
	k.once.Do(func() {
		rr := k.at(".")
		private, err := rr.Generate(256)
		if err != nil {
			k.err = err
			return
		}
		k.public, k.private = rr.PublicKey, private.(*ecdsa.PrivateKey)
	})
	return k.err
}

// at is the key as a zone has it.
func (k *zoneKey) at(apex string) *dns.DNSKEY {
	return &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: apex, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256, PublicKey: k.public,
	}
}

// delegation is what the parent of a zone has for it.
func (k *zoneKey) delegation(apex string) *dns.DS { return k.at(apex).ToDS(dns.SHA256) }

// anchorFile writes the root's where the daemon reads it.
func (k *zoneKey) anchorFile(dir string) (string, error) {
	if err := k.make(); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "root.ds")
	return name, os.WriteFile(name, []byte(k.delegation(".").String()+"\n"), 0o644)
}

// sign returns an RRset with its signature; a zone that is not signed has none.
func (k *zoneKey) sign(apex string, rrs ...dns.RR) ([]dns.RR, error) {
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Ttl: rrs[0].Header().Ttl},
		Algorithm: dns.ECDSAP256SHA256, KeyTag: k.at(apex).KeyTag(), SignerName: apex,
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(14 * 24 * time.Hour).Unix()),
	}
	if err := sig.Sign(k.private, rrs); err != nil {
		return nil, err
	}
	return append(rrs, sig), nil
}

// typeNXNAME says in a denial that there is no such name at all (RFC 9824 §2).
const typeNXNAME uint16 = 128

// denial says that a name has these types and no others.
func denial(name string, ttl uint32, types ...uint16) dns.RR {
	next := `\000.` + strings.TrimPrefix(name, ".")
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: ttl},
		NextDomain: next, TypeBitMap: types,
	}
}

// TestZones: what the resolver says is as a validator wants it.
func TestZones(t *testing.T) {
	must(t, signer.make())
	r := newResolver()
	for _, tc := range []struct {
		name   string
		rrtype uint16
		rcode  int
		answer bool
		signer string
	}{
		{".", dns.TypeNS, dns.RcodeSuccess, true, "."},
		{".", dns.TypeDNSKEY, dns.RcodeSuccess, true, "."},
		{".", dns.TypeA, dns.RcodeSuccess, false, "."},
		{"example.", dns.TypeDS, dns.RcodeSuccess, true, "."},
		{"none.example.", dns.TypeDS, dns.RcodeSuccess, false, "example."},
		{"dane.example.", dns.TypeDS, dns.RcodeSuccess, true, "example."},
		{"dane.example.", dns.TypeDNSKEY, dns.RcodeSuccess, true, "dane.example."},
		{"k1.dane.example.", dns.TypeMX, dns.RcodeSuccess, true, "dane.example."},
		{"k1.dane.example.", dns.TypeDS, dns.RcodeSuccess, false, "dane.example."},
		{"mx.k1.dane.example.", dns.TypeAAAA, dns.RcodeSuccess, false, "dane.example."},
		{"_25._tcp.mx.k1.dane.example.", dns.TypeTLSA, dns.RcodeSuccess, true, "dane.example."},
		{"k1.own.example.", dns.TypeDS, dns.RcodeSuccess, true, "own.example."},
		{"k1.own.example.", dns.TypeDNSKEY, dns.RcodeSuccess, true, "k1.own.example."},
		{"mx.k1.own.example.", dns.TypeDS, dns.RcodeSuccess, false, "k1.own.example."},
		{"k1.none.example.", dns.TypeMX, dns.RcodeSuccess, true, ""},
		{"k1.none.example.", dns.TypeDNSKEY, dns.RcodeSuccess, false, ""},
		{"nothing.", dns.TypeMX, dns.RcodeSuccess, false, "."},
	} {
		q := new(dns.Msg).SetQuestion(tc.name, tc.rrtype)
		q.SetEdns0(1232, true)
		m := new(dns.Msg)
		wire := r.reply(q)
		if err := m.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		signedBy := ""
		for _, rr := range append(m.Answer, m.Ns...) {
			sig, ok := rr.(*dns.RRSIG)
			if !ok {
				continue
			}
			signedBy = sig.SignerName
			var set []dns.RR
			for _, rr := range append(m.Answer, m.Ns...) {
				if rr.Header().Rrtype == sig.TypeCovered && rr.Header().Name == sig.Hdr.Name {
					set = append(set, rr)
				}
			}
			if err := sig.Verify(signer.at(sig.SignerName), set); err != nil {
				t.Errorf("%s %s: the signature of %s: %v", tc.name, dns.TypeToString[tc.rrtype], sig.Hdr.Name, err)
			}
		}
		if m.Rcode != tc.rcode || (len(m.Answer) > 0) != tc.answer || signedBy != tc.signer {
			t.Errorf("%s %s: want %+v, got\n%v", tc.name, dns.TypeToString[tc.rrtype], tc, m)
		}
	}
}
