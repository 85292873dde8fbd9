package dnssec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/verdict"
)

// nsecsOf reads records "owner next TYPE TYPE" of the zone example.
func nsecsOf(t *testing.T, lines ...string) *denial {
	t.Helper()
	d := &denial{zone: mustName("example."), most: MaxIterations, budget: new(Budget)}
	for _, line := range lines {
		f := strings.Fields(line)
		rec := nsec{owner: mustName(f[0]), next: mustName(f[1])}
		for _, s := range f[2:] {
			rec.types = append(rec.types, dns.StringToType[s])
		}
		d.nsecs = append(d.nsecs, rec)
	}
	return d
}

// TestNSECProofs is what single records show, and what they do not.
func TestNSECProofs(t *testing.T) {
	const (
		none     = verdict.Indeterminate
		secure   = verdict.Secure
		unsigned = verdict.Insecure
	)
	for _, c := range []struct {
		what    string
		records []string
		name    string
		rrtype  uint16
		noData  verdict.Proof
		noName  verdict.Proof
		cut     cutKind
	}{
		{"the type is not there", []string{"a.example. b.example. MX RRSIG NSEC"}, "a.example.", dns.TypeA, secure, none, noCut},
		{"the type is there", []string{"a.example. b.example. A RRSIG NSEC"}, "a.example.", dns.TypeA, none, none, noCut},
		{"an alias", []string{"a.example. b.example. CNAME RRSIG NSEC"}, "a.example.", dns.TypeA, none, none, noCut},
		{"a delegation", []string{"a.example. b.example. NS RRSIG NSEC"}, "a.example.", dns.TypeA, none, none, unsignedCut},
		{"a signed delegation", []string{"a.example. b.example. NS DS RRSIG NSEC"}, "a.example.", dns.TypeA, none, none, unknownCut},
		{"the child's apex", []string{"a.example. b.example. NS SOA RRSIG NSEC"}, "a.example.", dns.TypeA, secure, none, unknownCut},
		{"below a delegation", []string{"a.example. c.example. NS RRSIG NSEC", "example. a.example. NS SOA"}, "b.a.example.", dns.TypeA, none, none, unknownCut},
		{"below a DNAME", []string{"a.example. c.example. DNAME RRSIG NSEC", "example. a.example. NS SOA"}, "b.a.example.", dns.TypeA, none, none, unknownCut},
		{"beside a delegation", []string{"a.example. c.example. NS RRSIG NSEC", "example. a.example. NS SOA"}, "b.example.", dns.TypeA, none, secure, noName},
		{"an empty non-terminal", []string{"a.example. x.b.example. A RRSIG NSEC"}, "b.example.", dns.TypeA, secure, none, noCut},
		{"one record for name and wildcard", []string{"example. c.example. NS SOA"}, "b.example.", dns.TypeA, none, secure, noName},
		{"the wildcard is not denied", []string{"a.example. c.example. A"}, "b.example.", dns.TypeA, none, none, unknownCut},
		{"the wildcard has other types", []string{"a.example. c.example. A", "*.example. a.example. MX"}, "b.example.", dns.TypeA, secure, none, noCut},
		{"the wildcard has the type", []string{"a.example. c.example. A", "*.example. a.example. A"}, "b.example.", dns.TypeA, none, none, noCut},
		{"the wildcard is an alias", []string{"a.example. c.example. A", "*.example. a.example. CNAME"}, "b.example.", dns.TypeA, none, none, unknownCut},
		{"the wildcard is an empty non-terminal", []string{"a.example. c.example. A", "example. x.*.example. NS SOA"}, "b.example.", dns.TypeA, secure, none, noCut},
		{"another wildcard", []string{"b.a.example. d.a.example. A", "*.example. a.example. MX"}, "c.a.example.", dns.TypeA, none, none, unknownCut},
		{"the last record", []string{"x.example. example. A", "example. a.example. NS SOA"}, "y.example.", dns.TypeA, none, secure, noName},
		{"outside the zone", []string{"x.example. example. A", "example. a.example. NS SOA"}, "x.other.", dns.TypeA, none, none, unknownCut},
		{"NXNAME", []string{`a.example. \000.a.example. RRSIG NSEC NXNAME`}, "a.example.", dns.TypeA, secure, secure, noCut},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := nsecsOf(t, c.records...)
			for i := range d.nsecs {
				for j, rrtype := range d.nsecs[i].types {
					if rrtype == 0 {
						d.nsecs[i].types[j] = typeNXNAME
					}
				}
			}
			n := mustName(c.name)
			if got := d.noData(n, c.rrtype).proof; got != c.noData {
				t.Errorf("no data: %v, want %v", got, c.noData)
			}
			if got := d.nameError(n).proof; got != c.noName {
				t.Errorf("no name: %v, want %v", got, c.noName)
			}
			if got, _ := d.delegation(n); got != c.cut {
				t.Errorf("delegation: %v, want %v", got, c.cut)
			}
		})
	}
	// At the root there is no parent that would have a DS.
	d := nsecsOf(t)
	d.zone = root
	d.nsecs = []nsec{{owner: root, next: mustName("aaa."), types: types{dns.TypeNS, dns.TypeSOA}}}
	if got := d.noData(root, dns.TypeDS); got.proof != verdict.Secure {
		t.Errorf("the DS of the root: %v", got)
	}
}

// TestNSEC3Records: what makes a record none of the zone's.
func TestNSEC3Records(t *testing.T) {
	good := dns.NSEC3{Hash: 1, Salt: "aabb", NextDomain: strings.Repeat("0", 32), TypeBitMap: []uint16{dns.TypeA}}
	owner, zone := mustName(strings.Repeat("1", 32)+".example."), mustName("example.")
	if _, p, ok := readNSEC3(owner, &good, zone); !ok || p.salt != "\xaa\xbb" {
		t.Fatal("a good record is refused")
	}
	for what, edit := range map[string]func(*dns.NSEC3) (name, name){
		"another hash":      func(r *dns.NSEC3) (name, name) { r.Hash = 2; return owner, zone },
		"unknown flags":     func(r *dns.NSEC3) (name, name) { r.Flags = 2; return owner, zone },
		"a salt of no hex":  func(r *dns.NSEC3) (name, name) { r.Salt = "xy"; return owner, zone },
		"a short next hash": func(r *dns.NSEC3) (name, name) { r.NextDomain = "00"; return owner, zone },
		"a parent's":        func(*dns.NSEC3) (name, name) { return owner, root },
		"two labels down":   func(*dns.NSEC3) (name, name) { return "\x01a" + owner, zone },
		"at the apex":       func(*dns.NSEC3) (name, name) { return zone, zone },
		"no hash":           func(*dns.NSEC3) (name, name) { return mustName("mx.example."), zone },
		"the root":          func(*dns.NSEC3) (name, name) { return root, root },
	} {
		r := good
		o, z := edit(&r)
		if _, _, ok := readNSEC3(o, &r, z); ok {
			t.Errorf("%s is a record of the zone", what)
		}
	}
}

// TestTwoChains: while a zone changes its salt it has two chains, and each is whole.
func TestTwoChains(t *testing.T) {
	w := standard(t)
	z := w.zones["example.net."]
	old := w.reply("nowhere.example.net.", dns.TypeA).Ns
	z.salt = "aabbccdd"
	fresh := w.reply("nowhere.example.net.", dns.TypeA).Ns
	w.tamper = forQuery("nowhere.example.net.", dns.TypeA, func(m *dns.Msg) { m.Ns = append(append([]dns.RR{}, old[:4]...), fresh...) })
	want(t, w.lookup("nowhere.example.net.", dns.TypeA), verdict.NXDomain, verdict.Secure)
	// Half of each is nothing.
	w.tamper = forQuery("nowhere.example.net.", dns.TypeA, func(m *dns.Msg) { m.Ns = append(append([]dns.RR{}, old[:4]...), fresh[4:6]...) })
	refused(t, w.lookup("nowhere.example.net.", dns.TypeA), NoDenial)
}
