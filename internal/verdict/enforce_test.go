package verdict

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/tlsa"
)

// byFingerprint makes the facts those of a host whose MTA does not validate.
func byFingerprint(f Facts) Facts {
	f.Rules.DANE = ByFingerprint
	return f
}

// record reads "3 1 1 a": digests are of the byte that stands at the end.
func record(text string) tlsa.Record {
	var usage, selector, matching uint8
	var key string
	if _, err := fmt.Sscanf(text, "%d %d %d %s", &usage, &selector, &matching, &key); err != nil {
		panic(err)
	}
	r := tlsa.Record{Usage: tlsa.Usage(usage), Selector: tlsa.Selector(selector), Matching: tlsa.MatchingType(matching)}
	switch matching {
	case 0:
		r.Data = whole(key)
	case 1:
		r.Data = bytes.Repeat([]byte(key), sha256.Size)
	default:
		r.Data = bytes.Repeat([]byte(key), 64)
	}
	return r
}

// whole is the DER of a sequence that holds nothing but a text.
func whole(key string) []byte {
	return append([]byte{0x30, byte(2 + len(key)), 0x0c, byte(len(key))}, key...)
}

// sum is the digest of record("3 1 1 KEY").
func sum(key string) (s [sha256.Size]byte) {
	copy(s[:], bytes.Repeat([]byte(key), sha256.Size))
	return s
}

// keyed makes facts in which the n-th usable host has the n-th record set.
func keyed(mx Proof, classes string, sets ...string) Facts {
	f := byFingerprint(facts(mx, strings.Fields(classes)...))
	for i := range f.Hosts {
		if len(sets) == 0 || len(f.Hosts[i].TLSA) == 0 || tlsa.Classify(f.Hosts[i].TLSA[0].Answer.Records) != tlsa.Usable {
			continue
		}
		var records []tlsa.Record
		for text := range strings.SplitSeq(sets[0], ", ") {
			records = append(records, record(text))
		}
		f.Hosts[i].TLSA[0].Answer.Records = records
		sets = sets[1:]
	}
	return f
}

// TestFingerprint: what is answered where the MTA cannot look TLSA records up.
func TestFingerprint(t *testing.T) {
	hash := func(key string) [sha256.Size]byte { return sha256.Sum256(whole(key)) }
	type digestList = [][sha256.Size]byte
	for _, tc := range []struct {
		name  string
		facts Facts
		// want is a verdict's name; digests are those of a fingerprint.
		want     string
		digests  digestList
		decisive Code
		// says stands in the deferral, or in a reason.
		says string
	}{
		// Rung 3
		{"a key", keyed(Secure, "usable", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"a certificate", keyed(Secure, "usable", "3 0 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"a whole key", keyed(Secure, "usable", "3 1 0 a"), "fingerprint", digestList{hash("a")}, Fingerprints, ""},
		{"a whole certificate", keyed(Secure, "usable", "3 0 0 a"), "fingerprint", digestList{hash("a")}, Fingerprints, ""},
		{"two hosts", keyed(Secure, "usable usable", "3 1 1 b", "3 1 1 a"), "fingerprint", digestList{sum("b"), sum("a")}, Fingerprints, ""},
		{"one key for both", keyed(Secure, "usable usable", "3 1 1 a", "3 1 1 a, 3 1 1 b"), "fingerprint", digestList{sum("a"), sum("b")}, Fingerprints, ""},
		{"rollover", keyed(Secure, "usable", "3 1 1 b, 3 1 1 a"), "fingerprint", digestList{sum("a"), sum("b")}, Fingerprints, ""},
		{"with a trust anchor", keyed(Secure, "usable", "2 1 1 b, 3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"with SHA-512", keyed(Secure, "usable", "3 1 2 b, 3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"with an unusable record", keyed(Secure, "usable", "1 1 1 b, 3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"one host gone", keyed(Secure, "usable gone", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"one A fails", keyed(Secure, "usable a-fails", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"one TLSA fails", keyed(Secure, "usable tlsa-fails", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"one host unproven", keyed(Secure, "usable unproven", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"beside STS", sts(keyed(Secure, "usable", "3 1 1 a")), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"beside prefix", prefixed(keyed(Secure, "usable", "3 1 1 a"), 1), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"STS unsettled", edit(keyed(Secure, "usable", "3 1 1 a"), func(f *Facts) { f.STS = STSFacts{} }), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"trust anchor only", keyed(Secure, "usable", "2 1 1 a"), "defer", nil, NoFingerprints, "TLSA 2 1 1 of mx0.example.com has no fingerprint: give the mail server"},
		{"whole trust anchor", keyed(Secure, "usable", "2 0 0 a"), "defer", nil, NoFingerprints, "TLSA 2 0 0 of mx0.example.com"},
		{"SHA-512 only", keyed(Secure, "usable", "3 1 2 a"), "defer", nil, NoFingerprints, "TLSA 3 1 2 of mx0.example.com"},
		{"both", keyed(Secure, "usable", "3 1 2 a, 2 1 1 a, 2 1 1 b"), "defer", nil, NoFingerprints, "TLSA 2 1 1, 3 1 2 of mx0.example.com"},
		{"one of two", keyed(Secure, "usable usable", "3 1 1 a", "2 1 1 a"), "defer", nil, NoFingerprints, "TLSA 2 1 1 of mx1.example.com"},
		{"trust anchor beside STS", sts(keyed(Secure, "usable", "2 1 1 a")), "defer", nil, NoFingerprints, "TLSA 2 1 1"},
		{"trust anchor beside a failure", keyed(Secure, "usable tlsa-fails", "2 1 1 a"), "defer", nil, NoFingerprints, "TLSA 2 1 1"},
		{"all fail", keyed(Secure, "tlsa-fails"), "defer", nil, NoHostLeft, "SERVFAIL"},

		// Rung 4
		{"one plain", keyed(Secure, "usable none", "3 1 1 a"), "defer", nil, NoFingerprints, "mx1.example.com has no usable TLSA records"},
		{"one unsigned", keyed(Secure, "usable unsigned", "3 1 1 a"), "defer", nil, NoFingerprints, "mx1.example.com has no usable TLSA records"},
		{"one unusable", keyed(Secure, "usable unusable", "3 1 1 a"), "defer", nil, NoFingerprints, "mx1.example.com has no usable TLSA records"},
		{"one plain, failure between", keyed(Secure, "tlsa-fails usable none", "3 1 1 a"), "defer", nil, NoFingerprints, "mx2.example.com has no usable"},
		{"one plain, trust anchor", keyed(Secure, "none usable", "2 1 1 a"), "defer", nil, NoFingerprints, "TLSA 2 1 1 of mx1.example.com"},
		{"raised by STS", sts(keyed(Secure, "usable none", "3 1 1 a")), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"raised by STS, unusable", sts(keyed(Secure, "usable unusable", "3 1 1 a")), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"raised by prefix", prefixed(keyed(Secure, "usable none", "3 1 1 a"), 2), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"raised, trust anchor", sts(keyed(Secure, "usable none", "2 1 1 a")), "defer", nil, NoFingerprints, "TLSA 2 1 1"},
		{"plain, one fails", keyed(Secure, "none tlsa-fails"), "defer", nil, DANEHidden, "mx1.example.com may have TLSA records that could not be looked up"},
		{"plain, one A fails", keyed(Secure, "none a-fails"), "defer", nil, DANEHidden, "mx1.example.com may have"},
		{"unusable, one fails", keyed(Secure, "unusable tlsa-fails"), "defer", nil, DANEHidden, "mx1.example.com may have"},
		{"plain, one unsigned and dead", keyed(Secure, "none unsigned-dead"), "none", nil, Nothing, "its zone is not signed: no DANE"},
		{"plain, one unsigned and dead, one fails", keyed(Secure, "none unsigned-dead a-fails"), "defer", nil, DANEHidden, "mx2.example.com may have"},
		{"plain, only AAAA in doubt", edit(keyed(Secure, "none unsigned-dead"), func(f *Facts) { f.Hosts[1].AAAA = servfail[netip.Addr]() }), "defer", nil, DANEHidden, "mx1.example.com may have"},
		{"unusable, one unsigned and dead", keyed(Secure, "unusable unsigned-dead"), "encrypt", nil, EncryptAll, ""},
		{"usable, one unsigned and dead", keyed(Secure, "usable unsigned-dead", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"unsigned and dead", keyed(Secure, "unsigned-dead"), "defer", nil, NoHostLeft, "SERVFAIL"},
		{"plain, one unsigned and dead beside STS", sts(keyed(Secure, "none unsigned-dead")), "secure", nil, DANENarrowed, ""},
		{"plain, one unsigned and dead, native", edit(keyed(Secure, "none unsigned-dead"), func(f *Facts) { f.Rules.DANE = Native }), "dane", nil, DANESome, ""},
		{"narrowed by STS", sts(keyed(Secure, "none tlsa-fails")), "secure", nil, DANENarrowed, ""},

		// Rung 5
		{"unusable", keyed(Secure, "unusable unusable"), "encrypt", nil, DANEEncrypt, ""},
		{"unusable beside STS", sts(keyed(Secure, "unusable")), "secure", nil, STSEnforce, ""},
		{"unusable and plain", keyed(Secure, "unusable none"), "encrypt", nil, EncryptAll, ""},
		{"unusable and plain beside STS", sts(keyed(Secure, "unusable none")), "secure", nil, STSEnforce, ""},

		// Rung 6
		{"insecure mx", keyed(Insecure, "usable usable", "3 1 1 a", "3 1 0 b"), "fingerprint", digestList{sum("a"), hash("b")}, Fingerprints, ""},
		{"insecure mx, one fails", keyed(Insecure, "usable tlsa-fails", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"insecure mx, one A fails", keyed(Insecure, "usable a-fails", "3 1 1 a"), "fingerprint", digestList{sum("a")}, Fingerprints, ""},
		{"insecure mx, trust anchor", keyed(Insecure, "usable", "2 1 1 a"), "encrypt", nil, InsecureEncrypt, ""},
		{"insecure mx, one of two", keyed(Insecure, "usable usable", "3 1 1 a", "2 1 1 a"), "encrypt", nil, InsecureEncrypt, ""},
		{"insecure mx, unusable", keyed(Insecure, "unusable"), "encrypt", nil, InsecureEncrypt, ""},
		{"insecure mx, unusable too", keyed(Insecure, "usable unusable", "3 1 1 a"), "encrypt", nil, InsecureEncrypt, ""},
		{"insecure mx, one plain", keyed(Insecure, "usable none", "3 1 1 a"), "none", nil, Nothing, "nothing was promised"},
		{"insecure mx, one plain, one fails", keyed(Insecure, "tlsa-fails none"), "none", nil, Nothing, "nothing was promised"},
		{"insecure mx, TLSA fails", keyed(Insecure, "tlsa-fails"), "defer", nil, NoHostLeft, "SERVFAIL"},
		{"insecure mx, all A fail", keyed(Insecure, "a-fails"), "defer", nil, NoHostLeft, "SERVFAIL"},
		{"insecure mx beside STS", sts(keyed(Insecure, "usable", "3 1 1 a")), "secure", nil, STSEnforce, ""},

		// What the MTA's resolver has no part in
		{"nothing", keyed(Secure, "none"), "none", nil, Nothing, ""},
		{"sts", sts(keyed(Insecure, "unsigned")), "secure", nil, STSEnforce, ""},
		{"override", edit(keyed(Secure, "usable", "2 1 1 a"), func(f *Facts) { f.Override = &Override{Level: "encrypt"} }), "encrypt", nil, Overridden, ""},
		{"without DNSSEC", edit(keyed(Secure, "usable", "2 1 1 a"), func(f *Facts) { f.Rules.WithoutDNSSEC = true }), "none", nil, Nothing, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			if r.Verdict.Name() != tc.want {
				t.Fatalf("%s, want %s\n%s", r.Verdict.Name(), tc.want, explain(r))
			}
			if v, ok := r.Verdict.(Fingerprint); ok && !slices.Equal(v.Digests, tc.digests) {
				t.Errorf("digests %x, want %x", v.Digests, tc.digests)
			}
			if got := r.Reasons[len(r.Reasons)-1].Code; got != tc.decisive {
				t.Errorf("the last reason is %s, want %s\n%s", got, tc.decisive, explain(r))
			}
			if v, ok := r.Verdict.(Defer); ok {
				if !strings.Contains(v.Text, tc.says) {
					t.Errorf("the deferral says %q, want %q", v.Text, tc.says)
				}
				if tc.decisive == DANEHidden && (v.Fault != Remote || !strings.Contains(v.Text, "SERVFAIL") || len(v.Text) > 200 || !r.Provisional || r.TTL > FailureTTL) {
					t.Errorf("fault %v, %d bytes: %q, for %v", v.Fault, len(v.Text), v.Text, r.TTL)
				}
				if tc.decisive == NoFingerprints && (v.Fault != Operator || !strings.Contains(v.Text, wayOut) || len(v.Text) > 200) {
					t.Errorf("fault %v, %d bytes: %q", v.Fault, len(v.Text), v.Text)
				}
			} else if !strings.Contains(explain(r), tc.says) {
				t.Errorf("no reason says %q\n%s", tc.says, explain(r))
			}
		})
	}
}

// TestTooManyDigests: a zone chooses how many records it has, and not how long a
// line Postfix gets.
func TestTooManyDigests(t *testing.T) {
	set := func(n int) Facts {
		f := keyed(Secure, "usable")
		records := make([]tlsa.Record, n)
		for i := range records {
			s := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
			records[i] = tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: s[:]}
		}
		f.Hosts[0].TLSA[0].Answer.Records = records
		return f
	}
	if v, ok := Decide(set(MaxDigests)).Verdict.(Fingerprint); !ok || len(v.Digests) != MaxDigests {
		t.Errorf("%d records: %d digests", MaxDigests, len(v.Digests))
	}
	if v, ok := Decide(set(MaxDigests + 1)).Verdict.(Defer); !ok || !strings.Contains(v.Text, "257 different") {
		t.Errorf("%d records: %+v", MaxDigests+1, v)
	}
}

// TestFingerprintLifetime: a copy of TLSA records is no older than they may be, and
// what no lookup can mend is not looked at again for that.
func TestFingerprintLifetime(t *testing.T) {
	f := keyed(Secure, "usable", "3 1 1 a")
	f.Hosts[0].TLSA[0].Answer.TTL = 5 * time.Second
	if r := Decide(f); r.TTL != 5*time.Second || r.Provisional || !r.ByEnforcement {
		t.Errorf("TTL %v, provisional %v, by enforcement %v", r.TTL, r.Provisional, r.ByEnforcement)
	}
	if r := Decide(keyed(Secure, "usable", "2 1 1 a")); r.TTL != time.Hour || r.Provisional || !r.ByEnforcement {
		t.Errorf("trust anchor: TTL %v, provisional %v, by enforcement %v", r.TTL, r.Provisional, r.ByEnforcement)
	}
	if r := Decide(keyed(Secure, "none tlsa-fails")); r.TTL > time.Hour || !r.Provisional {
		t.Errorf("a failed lookup: TTL %v, provisional %v", r.TTL, r.Provisional)
	}
	if r := Decide(sts(keyed(Insecure, "unsigned"))); r.ByEnforcement {
		t.Error("an MTA-STS policy rests on how DANE is enforced")
	}
}

// hold is what is demanded of one host, from nothing to not being used at all.
type hold uint8

const (
	anything hold = iota
	encrypted
	authenticated
	unused
)

// holds says what a verdict demands of a host of a class; written says whether the
// host's records can be fingerprints.
func holds(v Verdict, c class, written bool) hold {
	switch v.(type) {
	case NoPolicy:
		return anything
	case Encrypt:
		return encrypted
	case STS, WebPKI:
		return authenticated
	case Defer:
		return unused
	case Fingerprint:
		if c == usable && written {
			return authenticated
		}
		return unused
	case DANEOnly:
		if c == usable {
			return authenticated
		}
		return unused
	case DANE:
		// A validating MTA finds out for itself what could not be looked up here.
		return map[class]hold{usable: authenticated, unusable: encrypted, plain: anything, uncertain: unused, unreachable: unused, gone: anything}[c]
	}
	panic(fmt.Sprintf("a verdict of type %T", v))
}

// TestNeverWeaker holds of random domains that no host is held to less than a
// validating MTA would hold it to, and that digests come from records only. Behind
// unsigned MX records nothing was promised; there only what the other rungs demand
// must stay.
func TestNeverWeaker(t *testing.T) {
	classes := []string{"unproven-gone", "unsigned-gone", "usable", "usable", "usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails", "gone", "unproven", "unsigned-tlsa"}
	sets := []string{"3 1 1 a", "3 1 1 b", "3 0 1 a, 3 1 1 c", "3 1 0 d", "3 0 0 e, 2 1 1 a", "2 1 1 a", "3 1 2 a", "2 0 0 a, 3 0 2 b"}
	raises := []func(Facts) Facts{func(f Facts) Facts { return f }, sts, func(f Facts) Facts { return prefixed(f, len(f.Hosts)) }}
	r := rand.New(rand.NewPCG(1, 2))
	answers := make(map[string]int)
	for range 20_000 {
		var of, have []string
		for range 1 + r.IntN(4) {
			of, have = append(of, classes[r.IntN(len(classes))]), append(have, sets[r.IntN(len(sets))])
		}
		mx := []Proof{Secure, Secure, Insecure}[r.IntN(3)]
		f := raises[r.IntN(len(raises))](keyed(mx, strings.Join(of, " "), have...))
		fingerprint := Decide(f)
		answers[fingerprint.Verdict.Name()]++
		f.Rules.DANE = Native
		native := Decide(f)
		for i := range f.Hosts {
			j := judge(&f.Hosts[i])
			written := len(digests(j.records)) > 0
			if want, got := holds(native.Verdict, j.class, written), holds(fingerprint.Verdict, j.class, written); mx == Secure && got < want {
				t.Fatalf("%v %v: %s holds %s to less than %s\n%s\n%s", of, have, fingerprint.Verdict.Name(), f.Hosts[i].Name, native.Verdict.Name(), explain(fingerprint), explain(native))
			}
		}
		if native.Verdict.Name() != "dane" && Strictness(fingerprint.Verdict) < Strictness(native.Verdict) {
			t.Fatalf("%v %v: %s for %s", of, have, fingerprint.Verdict.Name(), native.Verdict.Name())
		}
		if !native.ByEnforcement && !reflect.DeepEqual(native, fingerprint) {
			t.Fatalf("%v %v: %s and %s, and it is said to make no difference", of, have, native.Verdict.Name(), fingerprint.Verdict.Name())
		}
		if v, ok := fingerprint.Verdict.(Fingerprint); ok {
			checkDigests(t, &f, v)
		}
		if fingerprint.Verdict.Name() == "dane" || fingerprint.Verdict.Name() == "dane-only" {
			t.Fatalf("%v %v: %s, which this MTA cannot do", of, have, fingerprint.Verdict.Name())
		}
	}
	for _, name := range []string{"none", "encrypt", "secure", "fingerprint", "defer"} {
		if answers[name] < 100 {
			t.Errorf("%d of the answers are %s: the test sees too little to mean anything", answers[name], name)
		}
	}
}

// checkDigests: each digest is that of a record of a host that counts, and each such
// host has one.
func checkDigests(t *testing.T, f *Facts, v Fingerprint) {
	t.Helper()
	want := make(map[[sha256.Size]byte]bool)
	for i := range f.Hosts {
		j := judge(&f.Hosts[i])
		if j.class != usable {
			continue
		}
		list := digests(j.records)
		if len(list) == 0 {
			t.Errorf("%s can match none of the digests", f.Hosts[i].Name)
		}
		for _, s := range list {
			want[s] = true
		}
	}
	for _, s := range v.Digests {
		if !want[s] {
			t.Errorf("digest %x is of no record, or there twice", s)
		}
		delete(want, s)
	}
	if len(want) > 0 || len(v.Digests) == 0 {
		t.Errorf("%d digests are missing of %d", len(want), len(want)+len(v.Digests))
	}
}

// TestRecordOrder: the order in which a name server sends records does not matter.
func TestRecordOrder(t *testing.T) {
	a, b := Decide(keyed(Secure, "usable", "3 1 1 a, 3 1 1 b")), Decide(keyed(Secure, "usable", "3 1 1 b, 3 1 1 a, 3 1 1 b"))
	if !reflect.DeepEqual(a.Verdict, b.Verdict) {
		t.Errorf("%+v and %+v", a.Verdict, b.Verdict)
	}
}

// TestImplicitHost: a domain without MX records, and a host in brackets, are held to
// their own records.
func TestImplicitHost(t *testing.T) {
	implicit := edit(keyed(Secure, "usable", "3 1 1 a"), func(f *Facts) { f.MX = absent[MX](Secure) })
	alone := edit(keyed(Secure, "usable", "3 1 1 a"), func(f *Facts) { f.MX, f.Destination.Host = Answer[MX]{}, true })
	v6 := edit(keyed(Secure, "usable", "3 1 1 a"), func(f *Facts) {
		f.Hosts[0].A, f.Hosts[0].AAAA = absent[netip.Addr](Secure), found(Secure, netip.MustParseAddr("2001:db8::1"))
	})
	for _, f := range []Facts{implicit, alone, v6} {
		if v, ok := Decide(f).Verdict.(Fingerprint); !ok || len(v.Digests) != 1 {
			t.Errorf("%+v", Decide(f).Verdict)
		}
	}
}
