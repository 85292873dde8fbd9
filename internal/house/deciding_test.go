package house

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// The tests below read the tables of docs/deciding.md and have verdict.Decide
// answer every case in them, so that the page cannot say what the code does not do.

const dest = "example.com"

func noon() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

func found[T any](p verdict.Proof, records ...T) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: verdict.Found, Proof: p, Records: records, TTL: time.Hour}
}

func denied[T any](o verdict.Outcome, p verdict.Proof) verdict.Answer[T] {
	return verdict.Answer[T]{Outcome: o, Proof: p, TTL: time.Hour}
}

// host makes a host of one class.
func host(name, class string) verdict.Host {
	record := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
	address := found(verdict.Secure, netip.MustParseAddr("192.0.2.1"))
	answer := denied[tlsa.Record](verdict.NoData, verdict.Secure)
	switch class {
	case "usable":
		answer = found(verdict.Secure, record)
	case "unwritable":
		record.Usage = tlsa.DANETA
		answer = found(verdict.Secure, record)
	case "unusable":
		record.Usage = tlsa.PKIXEE
		answer = found(verdict.Secure, record)
	case "none":
	case "tlsa-failed":
		answer = verdict.Fail[tlsa.Record](verdict.Remote, "SERVFAIL")
	case "address-failed":
		address = verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL")
	case "unsigned-dead":
		address = verdict.Fail[netip.Addr](verdict.Remote, "SERVFAIL")
		address.Proof = verdict.Insecure
	case "gone":
		address = denied[netip.Addr](verdict.NXDomain, verdict.Secure)
	default:
		panic("no class " + class)
	}
	return verdict.Host{Name: name, A: address, AAAA: address, TLSA: []verdict.TLSALookup{{Base: name, Answer: answer}}}
}

// facts makes a domain with one MX host of each class.
func facts(mx verdict.Proof, classes []string) verdict.Facts {
	f := verdict.Facts{
		Now: noon(), Destination: nexthop.Destination{Name: dest, Port: nexthop.SMTPPort},
		Rules: verdict.Rules{STS: verdict.Enforce, Prefix: verdict.Enforce, DANE: verdict.Native},
		STS:   verdict.STSFacts{Record: denied[string](verdict.NoData, verdict.Insecure), Settled: true},
	}
	var records []verdict.MX
	for i, class := range classes {
		name := fmt.Sprintf("mx%d.%s", i, dest)
		records = append(records, verdict.MX{Preference: uint16(i), Host: name})
		f.Hosts = append(f.Hosts, host(name, class))
	}
	f.MX = found(mx, records...)
	return f
}

// withSTS adds a policy that matches every host.
func withSTS(f verdict.Facts) verdict.Facts {
	policy, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: *." + dest + "\nmax_age: 604800\n"))
	if err != nil {
		panic(err)
	}
	cached := mtasts.Cached{Domain: dest}.AfterSuccess(noon().Add(-time.Hour), "1", policy, 0)
	f.STS.Policy = &cached
	return f
}

// withPrefix renames every host.
func withPrefix(f verdict.Facts) verdict.Facts {
	f.MX.Records, f.Hosts = slices.Clone(f.MX.Records), slices.Clone(f.Hosts)
	for i := range f.MX.Records {
		f.MX.Records[i].Host = "starttls-" + f.MX.Records[i].Host
		f.Hosts[i].Name = f.MX.Records[i].Host
	}
	return f
}

// withRecord adds a TXT record that is believed.
func withRecord(f verdict.Facts, text string) verdict.Facts {
	f.Rules.TXT, f.TXT = verdict.Enforce, found(verdict.Secure, text)
	return f
}

const (
	tlsRequired = "v=SMTPSTRICT1; tls=required"
	webPKI      = tlsRequired + "; auth=webpki"
)

// holds reports a cell that Decide does not agree with.
func holds(t *testing.T, where, want string, f verdict.Facts) {
	t.Helper()
	if got := verdict.Decide(f).Verdict.Name(); got != want {
		t.Errorf("docs/deciding.md, %s: the table says %s, the code %s", where, want, got)
	}
}

// subsets returns every combination of host classes but the empty one.
func subsets(classes []string) [][]string {
	var all [][]string
	for bits := 1; bits < 1<<len(classes); bits++ {
		var set []string
		for i, class := range classes {
			if bits&(1<<i) != 0 {
				set = append(set, class)
			}
		}
		all = append(all, set)
	}
	return all
}

// columns says which classes each of a table's first columns is about.
type columns [][]string

// matches reports whether a row is about a set of hosts.
func (cs columns) matches(t *testing.T, row, set []string) bool {
	t.Helper()
	for i, classes := range cs {
		has := slices.ContainsFunc(set, func(class string) bool { return slices.Contains(classes, class) })
		switch row[i] {
		case "any":
		case "yes":
			if !has {
				return false
			}
		case "no":
			if has {
				return false
			}
		default:
			t.Fatalf("a cell of docs/deciding.md says %q: want yes, no or any", row[i])
		}
	}
	return true
}

// row finds the one row for a set of hosts.
func (cs columns) row(t *testing.T, rows [][]string, set []string) []string {
	t.Helper()
	var match []string
	for _, row := range rows {
		if !cs.matches(t, row, set) {
			continue
		}
		if match != nil {
			t.Errorf("docs/deciding.md: two rows are about hosts %v: %v and %v", set, match, row)
		}
		match = row
	}
	if match == nil {
		t.Fatalf("docs/deciding.md: no row is about hosts %v", set)
	}
	return match
}

// TestDecidingSigned: every mix of hosts behind signed MX records.
func TestDecidingSigned(t *testing.T) {
	rows := table(t, "docs/deciding.md", "### Signed MX records, or a single host")
	cs := columns{{"usable"}, {"unusable"}, {"none"}, {"tlsa-failed", "address-failed", "unsigned-dead"}}
	for _, set := range subsets([]string{"usable", "unusable", "none", "tlsa-failed", "address-failed", "unsigned-dead", "gone"}) {
		row, where := cs.row(t, rows, set), strings.Join(set, " and ")
		f := facts(verdict.Secure, set)
		holds(t, where, row[4], f)
		holds(t, where+", MTA-STS", row[5], withSTS(f))
		holds(t, where+", prefix", row[5], withPrefix(f))
		holds(t, where+", auth=webpki", row[5], withRecord(f, webPKI))
		if len(set) == 1 {
			alone := f
			alone.Destination.Host, alone.MX = true, verdict.Answer[verdict.MX]{}
			holds(t, where+", a single host", row[4], alone)
			holds(t, where+", a single host, MTA-STS", row[5], withSTS(alone))
			holds(t, where+", a single host, auth=webpki", row[5], withRecord(alone, webPKI))
		}
	}
}

// TestDecidingTLS: every mix of hosts behind signed MX records, where TLS is demanded.
func TestDecidingTLS(t *testing.T) {
	rows := table(t, "docs/deciding.md", "### Signed MX records, and TLS demanded")
	cs := columns{{"usable"}, {"unusable"}, {"none"}, {"tlsa-failed", "address-failed"}, {"unsigned-dead"}}
	for _, set := range subsets([]string{"usable", "unusable", "none", "tlsa-failed", "address-failed", "unsigned-dead", "gone"}) {
		row, where := cs.row(t, rows, set), "TLS demanded, "+strings.Join(set, " and ")
		f := withRecord(facts(verdict.Secure, set), tlsRequired)
		holds(t, where, row[5], f)
		f.Rules.DANE = verdict.ByFingerprint
		holds(t, where+", fingerprints", strings.Replace(row[5], "dane-only", "fingerprint", 1), f)
	}
}

// TestDecidingRecords: what the TXT record and the record type mean, whatever they are.
func TestDecidingRecords(t *testing.T) {
	unproven := found(verdict.Indeterminate, tlsRequired)
	answers := map[string][]verdict.Answer[string]{
		"secure, tls=required":                {found(verdict.Secure, tlsRequired)},
		"secure, tls=required; auth=webpki":   {found(verdict.Secure, webPKI)},
		"secure, two of them, or malformed":   {found(verdict.Secure, webPKI, tlsRequired), found(verdict.Secure, "v=SMTPSTRICT1; auth=webpki")},
		"not signed":                          {found(verdict.Insecure, webPKI)},
		"not there":                           {denied[string](verdict.NXDomain, verdict.Secure), denied[string](verdict.NoData, verdict.Insecure), found(verdict.Secure, "v=spf1 -all")},
		"lookup failed, bogus, or unprovable": {verdict.Fail[string](verdict.Remote, "SERVFAIL"), {Outcome: verdict.Failed, Proof: verdict.Bogus, Failure: &verdict.Failure{}}, unproven},
	}
	for _, row := range table(t, "docs/deciding.md", "### The TXT record and the record type") {
		if answers[row[0]] == nil {
			t.Errorf("docs/deciding.md speaks of a record %q, which this test does not know", row[0])
		}
		for _, a := range answers[row[0]] {
			for i, proof := range []verdict.Proof{verdict.Secure, verdict.Insecure} {
				if row[1+i] == "" {
					continue
				}
				f := facts(proof, []string{"none"})
				f.Rules.TXT, f.TXT = verdict.Enforce, a
				holds(t, row[0]+", TXT", row[1+i], f)
				f.Rules.TXT, f.TXT = verdict.Off, verdict.Answer[string]{}
				f.Rules.RR, f.RR = verdict.Enforce, asData(a)
				holds(t, row[0]+", record type", row[1+i], f)
			}
		}
		delete(answers, row[0])
	}
	for name := range answers {
		t.Errorf("docs/deciding.md has no row for the record %q", name)
	}
}

// asData makes the answer for a record type of one for a TXT record.
func asData(a verdict.Answer[string]) verdict.Answer[string] {
	var data []string
	for _, text := range a.Records {
		data = append(data, signal.RData(text))
	}
	a.Records = data
	return a
}

// TestDecidingUnsigned: every mix of hosts behind unsigned MX records.
func TestDecidingUnsigned(t *testing.T) {
	rows := table(t, "docs/deciding.md", "### Unsigned MX records")
	cs := columns{{"usable", "unusable"}, {"tlsa-failed"}, {"none"}, {"address-failed", "unsigned-dead"}}
	for _, set := range subsets([]string{"usable", "unusable", "none", "tlsa-failed", "address-failed", "unsigned-dead", "gone"}) {
		row, where := cs.row(t, rows, set), "unsigned, "+strings.Join(set, " and ")
		f := facts(verdict.Insecure, set)
		holds(t, where, row[4], f)
		holds(t, where+", prefix", row[4], withPrefix(f))
		holds(t, where+", MTA-STS", row[5], withSTS(f))
	}
}

// TestDecidingFingerprints: every mix of hosts, for a Postfix that does not validate.
func TestDecidingFingerprints(t *testing.T) {
	classes := []string{"usable", "unwritable", "unusable", "none", "tlsa-failed", "address-failed", "unsigned-dead", "gone"}
	signed := table(t, "docs/deciding.md", "#### Signed MX records, with fingerprints")
	unsigned := table(t, "docs/deciding.md", "#### Unsigned MX records, with fingerprints")
	for _, set := range subsets(classes) {
		cs := columns{{"usable"}, {"unwritable"}, {"unusable"}, {"none"}, {"tlsa-failed", "address-failed"}, {"unsigned-dead"}}
		row, where := cs.row(t, signed, set), "fingerprints, "+strings.Join(set, " and ")
		f := facts(verdict.Secure, set)
		f.Rules.DANE = verdict.ByFingerprint
		holds(t, where, row[6], f)
		holds(t, where+", MTA-STS", row[7], withSTS(f))
		holds(t, where+", prefix", row[7], withPrefix(f))
		holds(t, where+", auth=webpki", row[7], withRecord(f, webPKI))

		cs = columns{{"usable"}, {"unwritable"}, {"unusable"}, {"tlsa-failed"}, {"none"}, {"address-failed", "unsigned-dead"}}
		row, where = cs.row(t, unsigned, set), "unsigned, fingerprints, "+strings.Join(set, " and ")
		f = facts(verdict.Insecure, set)
		f.Rules.DANE = verdict.ByFingerprint
		holds(t, where, row[6], f)
		holds(t, where+", MTA-STS", row[7], withSTS(f))
	}
}

// TestDecidingMX: every answer to the MX question that decides by itself.
func TestDecidingMX(t *testing.T) {
	answers := map[string]verdict.Answer[verdict.MX]{
		"failed":                     verdict.Fail[verdict.MX](verdict.Remote, "SERVFAIL"),
		"anything else, unprovable":  found(verdict.Indeterminate, verdict.MX{Host: "mx." + dest}),
		"no such domain, signed":     denied[verdict.MX](verdict.NXDomain, verdict.Secure),
		"no such domain, not signed": denied[verdict.MX](verdict.NXDomain, verdict.Insecure),
		"null MX, signed":            found(verdict.Secure, verdict.MX{}),
		"null MX, not signed":        found(verdict.Insecure, verdict.MX{}),
	}
	for _, row := range table(t, "docs/deciding.md", "### What the MX answer settles") {
		mx, ok := answers[row[0]]
		if !ok {
			t.Errorf("docs/deciding.md speaks of an MX answer %q, which this test does not know", row[0])
			continue
		}
		delete(answers, row[0])
		f := facts(verdict.Secure, nil)
		f.MX = mx
		holds(t, row[0], row[1], f)
		holds(t, row[0]+", MTA-STS", row[2], withSTS(f))
	}
	for name := range answers {
		t.Errorf("docs/deciding.md has no row for the MX answer %q", name)
	}
}
