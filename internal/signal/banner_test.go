package signal

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseBanner(t *testing.T) {
	const week = 604800 * time.Second
	wild := Pattern{Wildcard: true, Host: "example.com"}
	for _, tc := range []struct {
		greeting string
		want     Banner
		err      error
	}{
		{"220 mx1.example.com ESMTP strict-tls=*.example.com; max-age=604800; includeSubDomains", Banner{wild, week, true}, nil},
		{"220 mx1.example.com ESMTP strict-tls=*.example.com; max-age=604800", Banner{wild, week, false}, nil},
		{"220 mx ESMTP strict-tls=mx1.example.com;max-age=604800;", Banner{Pattern{Host: "mx1.example.com"}, week, false}, nil},
		{"220 strict-tls=*.example.com; max-age=604800", Banner{wild, week, false}, nil},
		{"220-mx1.example.com ESMTP|220-strict-tls=*.example.com; max-age=604800|220 no junk mail", Banner{wild, week, false}, nil},

		// Forgiven: case, white space, what a later version may say, the same said twice.
		{"220 mx ESMTP STRICT-TLS=*.Example.COM ;\tMax-Age = 604800 ; INCLUDESUBDOMAINS ;; ", Banner{wild, week, true}, nil},
		{"220 mx ESMTP strict-tls=*.example.com; max-age=604800; max-age=604800; report=x; preload", Banner{wild, week, false}, nil},

		// A year at most, however much is asked for.
		{"220 mx strict-tls=*.example.com; max-age=31557600", Banner{wild, MaxAge, false}, nil},
		{"220 mx strict-tls=*.example.com; max-age=31557601", Banner{wild, MaxAge, false}, nil},
		{"220 mx strict-tls=*.example.com; max-age=99999999999999999999999999", Banner{wild, MaxAge, false}, nil},
		{"220 mx strict-tls=*.example.com; max-age=0", Banner{wild, 0, false}, nil},

		// None.
		{"220 mx1.example.com ESMTP Postfix", Banner{}, ErrNoRecord},
		{"220 mx1.example.com ESMTP xstrict-tls=*.example.com; max-age=1", Banner{}, ErrNoRecord},
		{"220 mx1.example.com ESMTP strict-tls", Banner{}, ErrNoRecord},
		{"554 mx strict-tls=*.example.com; max-age=1", Banner{}, ErrNoRecord},
		{"220mx strict-tls=*.example.com; max-age=1", Banner{}, ErrNoRecord},
		{"", Banner{}, ErrNoRecord},

		// Two.
		{"220-mx strict-tls=*.example.com; max-age=1|220 strict-tls=*.example.com; max-age=1", Banner{}, ErrSeveral},
		{"220 mx strict-tls=a.example.com strict-tls=b.example.com; max-age=1", Banner{}, ErrSeveral},

		// Broken.
		{"220 mx strict-tls=*.example.com", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age=1h", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age=-1", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age=1; max-age=2", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age=1; includeSubDomains=no", Banner{}, ErrMalformed},
		{"220 mx strict-tls=*.example.com; max-age=1; includeSubDomains ESMTP Postfix", Banner{}, ErrMalformed},

		// Patterns that say too much, or nothing.
		{"220 mx strict-tls=*.com; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=*.co.uk; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=co.uk; max-age=1; includeSubDomains", Banner{}, ErrPattern},
		{"220 mx strict-tls=*.github.io; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=*; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=*.*.example.com; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=mx*.example.com; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=localhost; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=*.internal; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=192.0.2.1; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=-a.example.com; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=example.com.; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=müller.example; max-age=1", Banner{}, ErrPattern},
		{"220 mx strict-tls=m\u212a.example.com; max-age=1", Banner{}, ErrPattern}, // the Kelvin sign
		{"220 mx strict-tls=; max-age=1", Banner{}, ErrPattern},
	} {
		got, err := ParseBanner(strings.Split(tc.greeting, "|"))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q: %+v, %v; want %+v, %v", tc.greeting, got, err, tc.want, tc.err)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		sub     bool
		covered []string
		not     []string
	}{
		{"mx.example.com", false, []string{"mx.example.com"}, []string{"a.mx.example.com", "example.com", "xmx.example.com"}},
		{"mx.example.com", true, []string{"mx.example.com", "a.mx.example.com", "b.a.mx.example.com"}, []string{"example.com", "xmx.example.com"}},
		{"*.example.com", false, []string{"mx.example.com"}, []string{"example.com", "a.mx.example.com", "mxexample.com", ".example.com"}},
		{"*.example.com", true, []string{"mx.example.com", "a.mx.example.com"}, []string{"example.com", "mx.example.com.evil.example"}},
	} {
		p, err := parsePattern(tc.pattern)
		if err != nil || p.String() != tc.pattern {
			t.Fatalf("%s: %v, %v", tc.pattern, p, err)
		}
		b := Banner{Pattern: p, IncludeSubDomains: tc.sub}
		for _, host := range tc.covered {
			if !b.Covers(host) {
				t.Errorf("%s, subdomains %v, does not cover %s", tc.pattern, tc.sub, host)
			}
		}
		for _, host := range tc.not {
			if b.Covers(host) {
				t.Errorf("%s, subdomains %v, covers %s", tc.pattern, tc.sub, host)
			}
		}
	}
}

func FuzzParseBanner(f *testing.F) {
	for _, seed := range []string{
		"220 mx1.example.com ESMTP strict-tls=*.example.com; max-age=604800; includeSubDomains",
		"220-mx\n220 strict-tls=a.example.com;max-age=1", "220 x strict-tls=*.com; max-age=1", "220 ", "",
	} {
		f.Add(seed, "mx1.example.com")
	}
	f.Fuzz(func(t *testing.T, greeting, host string) {
		b, err := ParseBanner(strings.Split(greeting, "\n"))
		if err != nil {
			if b != (Banner{}) {
				t.Fatalf("%+v beside %v", b, err)
			}
			return
		}
		if b.MaxAge < 0 || b.MaxAge > MaxAge || !strings.Contains(b.Pattern.Host, ".") || b.Pattern.Host != strings.ToLower(b.Pattern.Host) {
			t.Fatalf("%q: %+v", greeting, b)
		}
		if b.Covers(host) && !strings.HasSuffix(host, b.Pattern.Host) {
			t.Fatalf("%+v covers %q", b, host)
		}
	})
}

func BenchmarkParseBanner(b *testing.B) {
	lines := []string{"220 mx1.example.com ESMTP strict-tls=*.example.com; max-age=604800; includeSubDomains"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBanner(lines); err != nil {
			b.Fatal(err)
		}
	}
}
