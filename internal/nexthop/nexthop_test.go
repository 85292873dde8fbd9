package nexthop

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		key, want string
		host      bool
		port      uint16
	}{
		{"example.com", "example.com", false, 25},
		{"Example.COM", "example.com", false, 25},
		{"example.com.", "example.com", false, 25},
		{"example.com:26", "example.com", false, 26},
		{"example.com:smtp", "example.com", false, 25},
		{"[mx.example.com]", "mx.example.com", true, 25},
		{"[mx.example.com]:587", "mx.example.com", true, 587},
		{"[MX.example.com]:submission", "mx.example.com", true, 587},
		{"bücher.example", "xn--bcher-kva.example", false, 25},
		{"BÜCHER.example", "xn--bcher-kva.example", false, 25},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", false, 25},
		{"_dmarc.example.com", "_dmarc.example.com", false, 25},
		{"localhost", "localhost", false, 25},
		{"faß.example", "xn--fa-hia.example", false, 25},
		{"example.com\u3002", "example.com", false, 25},
		{"example\uff0ecom\uff0e", "example.com", false, 25},
		{"AB--cd.example", "ab--cd.example", false, 25},
		{"R3---sn.example", "r3---sn.example", false, 25},
		{"-A.example", "-a.example", false, 25},
	} {
		d, err := Parse(tc.key)
		if err != nil || d.Name != tc.want || d.Host != tc.host || d.Port != tc.port {
			t.Errorf("Parse(%q) = %+v, %v; want %s host=%v port=%d", tc.key, d, err, tc.want, tc.host, tc.port)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		key  string
		want error
	}{
		{".example.com", ErrParent},
		{".", ErrParent},
		{"192.0.2.1", ErrLiteral},
		{"[192.0.2.1]", ErrLiteral},
		{"[192.0.2.1]:587", ErrLiteral},
		{"[IPv6:2001:db8::1]", ErrLiteral},
		{"[ipv6:2001:db8::1]:25", ErrLiteral},
		{"[2001:db8::1]", ErrLiteral},
		{"2001:db8::1", ErrLiteral},
		{"192.0.2.1.", ErrLiteral},
		{"[192.0.2.1.]", ErrLiteral},
		{"\uff11\uff19\uff12.0.2.1", ErrLiteral},
		{"", ErrInvalid},
		{"*", ErrInvalid},
		{"a..b", ErrInvalid},
		{"example.com..", ErrInvalid},
		{"example.com.\u3002", ErrInvalid},
		{"[mx.example.com", ErrInvalid},
		{"[mx.example.com]x", ErrInvalid},
		{"[mx.example.com]:", ErrInvalid},
		{"example.com:0", ErrInvalid},
		{"example.com:65536", ErrInvalid},
		{"exa mple.com", ErrInvalid},
		{"exa\x00mple.com", ErrInvalid},
		{"xn--a.example", ErrInvalid},
		{strings.Repeat("a", 64) + ".example", ErrInvalid},
		{strings.Repeat("a.", 127) + "aa", ErrInvalid},
	} {
		if d, err := Parse(tc.key); !errors.Is(err, tc.want) {
			t.Errorf("Parse(%q) = %+v, %v; want %v", tc.key, d, err, tc.want)
		}
	}
}

// FuzzParse holds that a destination's own spelling parses to the same
// destination, and that nothing else than a host name comes out.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"example.com", "[mx.example.com]:587", "bücher.example", "[IPv6:::1]", "a..b", ".x", "xn--bcher-kva.example:26", "0.0.0.0.", "b\x81"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		d, err := Parse(key)
		if err != nil {
			return
		}
		if !wellFormed(d.Name) || d.Port == 0 {
			t.Fatalf("Parse(%q) = %+v", key, d)
		}
		again, err := Parse(d.String())
		if err != nil || again != d {
			t.Fatalf("Parse(%q) = %+v, and Parse(%q) = %+v, %v", key, d, d.String(), again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("mail.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
