package socketmapd

import (
	"strings"
	"testing"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// FuzzDialects: whatever a policy, an MX record or an override has for names, each
// dialect answers a line that its MTA can read, or that makes mail wait.
func FuzzDialects(f *testing.F) {
	seeds := []string{
		"mx.example.com *.example.net", "hostname nexthop dot-nexthop", "a servername=hostname", "*.", ".", "*", "..",
		"a,b", "mx1:mx2.example.com", "192.0.2.1 2001:db8::1 [192.0.2.1]", "MX.Example.COM", "bücher.example", "x\ny.example", "_tls.a-b.example",
		strings.Repeat("mx.mail.example.net ", 40), strings.Repeat("l", 63) + "." + strings.Repeat("m", 63) + ".example",
	}
	for i := range samples() {
		f.Add(i, seeds[i%len(seeds)], "example.com")
	}
	for _, seed := range seeds {
		f.Add(9, seed, "xn--bcher-kva.example")
		f.Add(len(samples())-1, seed, "mail.example.com")
	}
	f.Fuzz(func(t *testing.T, i int, names, domain string) {
		all := samples()
		if i < 0 || i >= len(all) {
			return
		}
		d, err := nexthop.Parse(domain)
		if err != nil {
			d = example
		}
		r := renamed(all[i], strings.Fields(names))
		for _, in := range append(dialects(), mustLookUp(t, "verdict")) {
			if _, ok := r.Verdict.(verdict.Fixed); ok && strings.HasPrefix(in.name, "postfix") {
				continue // word for word, as the configuration has checked it
			}
			got := string(in.spell(&Options{ReportLevel: "may"}, nil, d, r))
			if err := grammars()[in.name](got); err != nil {
				t.Errorf("%s: %q: %v", in.name, got, err)
			}
		}
	})
}

func mustLookUp(t testing.TB, name string) dialect {
	t.Helper()
	in, ok := lookUp([]byte(name))
	if !ok {
		t.Fatalf("no map %q", name)
	}
	return in
}

// renamed is a sample with other names wherever it has any.
func renamed(s sample, names []string) engine.Ruled {
	r := s.ruled()
	switch v := s.verdict.(type) {
	case verdict.STS:
		v.Patterns, v.Hosts, v.Lines = names, names, names
		r.Verdict = v
	case verdict.WebPKI:
		v.Hosts = names
		r.Verdict = v
	case verdict.Fixed:
		v.Attributes = append([]verdict.Attribute{{Name: "match", Value: strings.Join(names, ":")}}, v.Attributes...)
		r.Verdict = v
	}
	if s.beside != nil {
		r.Beside = &verdict.Beside{STS: &verdict.STS{Domain: "example.com", Patterns: names, Hosts: names}}
	}
	return r
}

// FuzzRecipient: whatever Postfix asks of transport_maps, the domain that is found is one
// that the key ends in, and can stand in an answer.
func FuzzRecipient(f *testing.F) {
	for _, seed := range []string{"user@example.com", `"a@b"@Example.COM.`, "*", ".example.com", "user@[192.0.2.1]", "a@b@c.example", "bücher.example", "@", "user@example.com:26", "localhost."} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		d, ok := recipient(key)
		if !ok {
			return
		}
		if d.Host || d.Port != nexthop.SMTPPort || strings.ContainsAny(d.Name, ":@[] \t\r\n") || !strings.Contains(d.Name, ".") {
			t.Fatalf("%q: %+v", key, d)
		}
		again, ok := recipient([]byte("user@" + d.Name))
		if !ok || again != d {
			t.Fatalf("%q: %+v, and of it %+v", key, d, again)
		}
	})
}
