package postfixmap

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var sha256Hex = strings.Repeat("ab:", 31) + "cd"

// lines are lines in the form in which AppendTo writes them, and what they mean.
func lines() []struct {
	line  string
	since Version
	want  TLSPolicy
} {
	return []struct {
		line  string
		since Version
		want  TLSPolicy
	}{
		{"none", V3_4, TLSPolicy{Level: LevelNone}},
		{"may", V3_4, TLSPolicy{Level: LevelMay}},
		{"encrypt ciphers=high", V3_4, TLSPolicy{Level: LevelEncrypt, Ciphers: "high"}},
		{"dane", V3_4, TLSPolicy{Level: LevelDANE}},
		{"dane-only", V3_4, TLSPolicy{Level: LevelDANEOnly}},
		{"verify", V3_4, TLSPolicy{Level: LevelVerify}},
		{
			"secure match=mx1.example.com:.example.net servername=hostname", V3_4,
			TLSPolicy{Level: LevelSecure, Match: []string{"mx1.example.com", ".example.net"}, ServerName: ServerNameHostname},
		},
		{
			"secure match=mx.example.com:nexthop:dot-nexthop", V3_4,
			TLSPolicy{
				Level: LevelSecure, Match: []string{"mx.example.com"},
				Strategies: []Strategy{StrategyNexthop, StrategyDotNexthop},
			},
		},
		{
			"fingerprint match=" + sha256Hex + "|" + sha256Hex + " servername=mx.example.com", V3_4,
			TLSPolicy{Level: LevelFingerprint, Match: []string{sha256Hex, sha256Hex}, ServerName: "mx.example.com"},
		},
		{
			"fingerprint match=" + strings.Repeat("0A", 20), V3_6,
			TLSPolicy{Level: LevelFingerprint, Match: []string{strings.Repeat("0A", 20)}},
		},
		{
			"verify protocols=!SSLv2:!TLSv1.1 exclude=aNULL:DES-CBC3-SHA tafile=/etc/a.pem tafile=/etc/b.pem connection_reuse=no", V3_4,
			TLSPolicy{
				Level: LevelVerify, Protocols: []string{"!SSLv2", "!TLSv1.1"}, Exclude: []string{"aNULL", "DES-CBC3-SHA"},
				TAFiles: []string{"/etc/a.pem", "/etc/b.pem"}, ConnectionReuse: No,
			},
		},
		{"may protocols=>=TLSv1.2:<=TLSv1.3", V3_6, TLSPolicy{Level: LevelMay, Protocols: []string{">=TLSv1.2", "<=TLSv1.3"}}},
		{"encrypt enable_rpk=yes", V3_9, TLSPolicy{Level: LevelEncrypt, EnableRPK: Yes}},
		{
			"secure match=mx.example.com:.example.com servername=hostname policy_type=sts policy_domain=example.com policy_ttl=86400" +
				" mx_host_pattern=mx.example.com mx_host_pattern=*.example.com" +
				" { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = x: {a, b}=c }",
			V3_10,
			TLSPolicy{
				Level: LevelSecure, Match: []string{"mx.example.com", ".example.com"}, ServerName: ServerNameHostname,
				PolicyType: PolicySTS, PolicyDomain: "example.com", PolicyTTL: 24 * time.Hour,
				MXHostPatterns: []string{"mx.example.com", "*.example.com"},
				PolicyStrings:  []string{"version: STSv1", "mode: enforce", "x: {a, b}=c"},
			},
		},
		{
			"may policy_type=sts policy_domain=example.com policy_failure=sts-policy-fetch-error", V3_10,
			TLSPolicy{Level: LevelMay, PolicyType: PolicySTS, PolicyDomain: "example.com", PolicyFailure: FailureFetch},
		},
		{
			"may policy_type=no-policy-found policy_domain=example.com", V3_10,
			TLSPolicy{Level: LevelMay, PolicyType: PolicyNotFound, PolicyDomain: "example.com"},
		},
	}
}

func versions() []Version { return []Version{V3_4, V3_6, V3_9, V3_10} }

func TestTLSPolicyRoundTrip(t *testing.T) {
	for _, tt := range lines() {
		for _, v := range versions() {
			line, err := tt.want.AppendTo([]byte("OK "), v)
			if v < tt.since {
				if !errors.Is(err, ErrPolicy) || string(line) != "OK " {
					t.Errorf("%v: AppendTo = %q, %v; want an error", v, line, err)
				}
				if _, err := ParseTLSPolicy(tt.line, v); !errors.Is(err, ErrPolicy) {
					t.Errorf("%v: ParseTLSPolicy(%q) = %v; want an error", v, tt.line, err)
				}
				continue
			}
			if err != nil || string(line) != "OK "+tt.line {
				t.Errorf("%v: AppendTo = %q, %v; want %q", v, line, err, tt.line)
			}
			got, err := ParseTLSPolicy(tt.line, v)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v: ParseTLSPolicy(%q) = %+v, %v", v, tt.line, got, err)
			}
		}
	}
}

// Other spellings that Postfix takes, and the one that we would write.
func TestParseTLSPolicyLenience(t *testing.T) {
	for in, want := range map[string]string{
		" Secure,match=a.example\tMATCH=b.example,": "secure match=a.example:b.example",
		"secure match=Nexthop:a.example:HOSTNAME":   "secure match=a.example:nexthop:hostname",
		"may\nciphers=HIGH\r\nconnection_reuse=YES": "may ciphers=high connection_reuse=yes",
		"{may}":                  "",
		"may { ciphers = high }": "may ciphers=high",
		"may {ciphers=high},{servername=mx.example}":                    "may servername=mx.example ciphers=high",
		"may policy_type=STS policy_string=a=b":                         "may policy_type=sts { policy_string = a=b }",
		"may policy_failure=Sts-Webpki-Invalid policy_type=sts":         "may policy_type=sts policy_failure=sts-webpki-invalid",
		"may policy_type=sts {policy_string=a  b} {policy_string = c,}": "may policy_type=sts { policy_string = a  b } { policy_string = c, }",
		"may policy_type=sts policy_ttl=007":                            "may policy_type=sts policy_ttl=7",
	} {
		p, err := ParseTLSPolicy(in, V3_10)
		if want == "" {
			if err == nil {
				t.Errorf("ParseTLSPolicy(%q) was accepted", in)
			}
			continue
		}
		got, err2 := p.AppendTo(nil, V3_10)
		if err != nil || err2 != nil || string(got) != want {
			t.Errorf("ParseTLSPolicy(%q) = %q, %v, %v; want %q", in, got, err, err2, want)
		}
	}
}

// refused are lines that Postfix 3.10 does not take, or takes to mean less than is written, and
// the attribute that the error names.
func refused() map[string]string {
	return map[string]string{
		"":                              "",
		" , ":                           "",
		"secur":                         "",
		"halfdane":                      "",
		"may=x":                         "",
		"none ciphers=high":             "ciphers",
		"may match=a.example":           "match",
		"encrypt match=a.example":       "match",
		"dane match=a.example":          "match",
		"dane-only match=a.example":     "match",
		"may bogus=1":                   "bogus",
		"may fallback=encrypt":          "fallback",
		"may policy_\u017ftring=x":      "policy_\u017ftring",
		"may enable_rp\u212a=yes":       "enable_rp\u212a",
		"may ciphers":                   "",
		"may =high":                     "",
		"may ciphers=":                  "ciphers",
		"may protocols=":                "protocols",
		"may exclude=":                  "exclude",
		"may ciphers=high ciphers=high": "ciphers",
		"may servername=a servername=a": "servername",

		"may connection_reuse=yes enable_rpk=no connection_reuse=no": "connection_reuse",

		"may connection_reuse=1":                                         "connection_reuse",
		"may enable_rpk=true":                                            "enable_rpk",
		"may ciphers=strong":                                             "ciphers",
		"may protocols=!TLSv1.9":                                         "protocols",
		"may protocols=!TLSv1,!TLSv1.1":                                  "",
		"may protocols=TLSv1.2::TLSv1.3":                                 "protocols",
		"may exclude=!aNULL":                                             "exclude",
		"may exclude=aNULL;MD5":                                          "exclude",
		"may servername=-x":                                              "servername",
		"may servername=192.0.2.1":                                       "servername",
		"may servername=m\u00fcller.example":                             "servername",
		"may tafile=/etc/ca.pem":                                         "tafile",
		"secure tafile=ca.pem":                                           "tafile",
		"secure match=":                                                  "match",
		"secure match=:":                                                 "match",
		"secure match=a.example::b.example":                              "match",
		"secure match=a.example|b.example":                               "match",
		"secure match=*.example.com":                                     "match",
		"secure match=192.0.2.1":                                         "match",
		"secure match=[192.0.2.1]":                                       "match",
		"secure match=.":                                                 "match",
		"secure match=a.example.":                                        "match",
		"secure match=m\u00fcller.example":                               "match",
		"fingerprint match=nexthop":                                      "match",
		"fingerprint match=ab:cd":                                        "match",
		"fingerprint match=" + sha256Hex + "|":                           "match",
		"fingerprint match=" + strings.Repeat("xx:", 31) + "xx":          "match",
		"fingerprint match=" + strings.Repeat("abc:de", 10) + "abcd":     "match",
		"may policy_domain=example.com":                                  "policy_domain",
		"may policy_string=x":                                            "policy_string",
		"may mx_host_pattern=x":                                          "mx_host_pattern",
		"may policy_failure=validation-failure":                          "policy_failure",
		"may policy_ttl=1":                                               "policy_ttl",
		"may policy_type=tlsa":                                           "policy_type",
		"may policy_type=dane":                                           "policy_type",
		"may policy_type=sts policy_failure=oops":                        "policy_failure",
		"may policy_type=sts policy_domain=a..b":                         "policy_domain",
		"may policy_type=sts policy_domain=a policy_domain=b":            "policy_domain",
		"may policy_type=sts policy_ttl=0":                               "policy_ttl",
		"may policy_type=sts policy_ttl=-1":                              "policy_ttl",
		"may policy_type=sts policy_ttl=2147483648":                      "policy_ttl",
		"may policy_type=sts policy_ttl=1d":                              "policy_ttl",
		"may policy_type=sts mx_host_pattern=.example.com":               "mx_host_pattern",
		"may policy_type=sts mx_host_pattern=*":                          "mx_host_pattern",
		"may policy_type=sts mx_host_pattern=a.*.example":                "mx_host_pattern",
		"secure policy_type=sts policy_failure=validation-failure":       "policy_failure",
		"dane-only policy_type=sts policy_failure=sts-webpki-invalid":    "policy_failure",
		"may policy_type=sts policy_string=version: STSv1":               "",
		"may policy_type=sts { policy_string = a":                        "",
		"may policy_type=sts { policy_string = a }}":                     "",
		"may policy_type=sts { policy_string = a }b":                     "",
		"may policy_type=sts { policy_string = a }{ policy_string = b }": "",
		"may policy_type=sts { policy_string }":                          "",
		"may policy_type=sts { }":                                        "",
		"may policy_type=sts {":                                          "",
		"may policy_type=sts { policy_string = }":                        "policy_string",
		"may policy_type=sts { policy_string = a\tb }":                   "policy_string",
		"may policy_type=sts { policy_string = \xff }":                   "policy_string",
		"may policy_type=sts policy_string=a{b c}d":                      "",
		"may ciphers=high\x00":                                           "",
		"may\vciphers=high":                                              "",
		"may # a comment":                                                "",
	}
}

func TestParseTLSPolicyRefuses(t *testing.T) {
	for in, attribute := range refused() {
		p, err := ParseTLSPolicy(in, V3_10)
		var pe *PolicyError
		if !errors.As(err, &pe) || !errors.Is(err, ErrPolicy) || pe.Attribute != attribute || p.Level != LevelInvalid {
			t.Errorf("ParseTLSPolicy(%q) = %+v, %v; want an error about %q", in, p, err, attribute)
			continue
		}
		if pe.Reason == "" || pe.Remedy == "" || !strings.HasPrefix(pe.Error(), "postfixmap: TLS policy") {
			t.Errorf("ParseTLSPolicy(%q): %v: no reason or no way out", in, err)
		}
	}
}

func TestTLSPolicyBraces(t *testing.T) {
	for _, v := range []Version{V3_4, V3_9} {
		if _, err := ParseTLSPolicy("may { ciphers = high }", v); !errors.Is(err, ErrPolicy) {
			t.Errorf("%v took braces: %v", v, err)
		}
	}
}

// What a stranger's MTA-STS policy may hold must not change the line's meaning.
func TestAppendToRefuses(t *testing.T) {
	secure := func(match ...string) TLSPolicy { return TLSPolicy{Level: LevelSecure, Match: match} }
	sts := func(s ...string) TLSPolicy {
		return TLSPolicy{Level: LevelMay, PolicyType: PolicySTS, PolicyStrings: s}
	}
	for name, p := range map[string]TLSPolicy{
		"zero":                 {},
		"level out of range":   {Level: LevelSecure + 1},
		"strategy as a host":   secure("hostname"),
		"strategy in capitals": secure("HostName"),
		"strategy among hosts": secure("a.example", "nexthop"),
		"dot-nexthop":          secure("dot-nexthop"),
		"space":                secure("a.example b.example"),
		"comma":                secure("a.example,servername=b"),
		"colon":                secure("a.example:b.example"),
		"bar":                  secure("a.example|b.example"),
		"brace":                secure("{a.example}"),
		"empty":                secure(""),
		"wildcard":             secure("*.example"),
		"newline":              secure("a.example\nb"),
		"NUL":                  secure("a.example\x00"),
		"U-label":              secure("m\u00fcller.example"),
		"Kelvin":               secure("\u212a.example"),
		"unknown strategy":     {Level: LevelSecure, Strategies: []Strategy{"any"}},
		"strategy and digest":  {Level: LevelFingerprint, Strategies: []Strategy{StrategyNexthop}},
		"servername injection": {Level: LevelMay, ServerName: "a ciphers=null"},
		"cipher injection":     {Level: LevelMay, Exclude: []string{"MD5 tafile=/x"}},
		"toggle out of range":  {Level: LevelMay, ConnectionReuse: 7},
		"rpk out of range":     {Level: LevelMay, EnableRPK: 7},
		"file with a space":    {Level: LevelSecure, TAFiles: []string{"/a b"}},
		"file with a brace":    {Level: LevelSecure, TAFiles: []string{"/a{b"}},
		"half a second":        {Level: LevelMay, PolicyType: PolicySTS, PolicyTTL: time.Second / 2},
		"negative TTL":         {Level: LevelMay, PolicyType: PolicySTS, PolicyTTL: -time.Second},
		"a century":            {Level: LevelMay, PolicyType: PolicySTS, PolicyTTL: 100 * 366 * 24 * time.Hour},
		"closing brace":        sts("a } match=b {"),
		"open brace":           sts("{"),
		"line end":             sts("a\r\nb"),
		"trailing space":       sts("a "),
		"leading space":        sts(" a"),
		"empty string":         sts("a", ""),
		"too long":             sts(strings.Repeat("x", MaxReply)),
	} {
		got, err := p.AppendTo([]byte("x"), V3_10)
		var pe *PolicyError
		if !errors.As(err, &pe) || string(got) != "x" || pe.Reason == "" || pe.Remedy == "" {
			t.Errorf("%s: AppendTo = %.60q, %v", name, got, err)
		}
	}
	p := TLSPolicy{Level: LevelMay}
	for _, v := range []Version{0, V3_4 - 1} {
		if _, err := p.AppendTo(nil, v); !errors.Is(err, ErrPolicy) {
			t.Errorf("version %v: %v", v, err)
		}
	}
}

func TestHostPattern(t *testing.T) {
	for in, want := range map[string]string{
		"mx.Example.COM":                     "mx.example.com",
		"*.example.com":                      ".example.com",
		".example.com":                       ".example.com",
		"xn--mller-kva.example":              "xn--mller-kva.example",
		"hostname.example":                   "hostname.example",
		"localhost":                          "localhost",
		"hostname":                           "",
		"Nexthop":                            "",
		"dot-nexthop":                        "",
		"*":                                  "",
		"*.":                                 "",
		"*.*.example":                        "",
		"a.*.example":                        "",
		"192.0.2.1":                          "",
		"2001:db8::1":                        "",
		"a.example.":                         "",
		"a..example":                         "",
		"a b":                                "",
		"":                                   "",
		"\u212a.example":                     "",
		"a\u017f.example":                    "",
		strings.Repeat("a", 64) + ".example": "",
		strings.Repeat("a.", 127) + "aa":     "",
	} {
		got, err := HostPattern(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrPolicy) {
			t.Errorf("HostPattern(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"*.Example.com": "*.example.com",
		"mx.example":    "mx.example",
		"hostname":      "hostname",
		".example.com":  "",
		"*":             "",
		"a b":           "",
	} {
		if got, err := MXHostPattern(in); got != want || (err == nil) != (want != "") {
			t.Errorf("MXHostPattern(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	got := Fingerprint([]byte(strings.Repeat("\x0a\xff", 16)))
	want := strings.Repeat("0a:ff:", 15) + "0a:ff"
	p := TLSPolicy{Level: LevelFingerprint, Match: []string{got}}
	if err := p.Check(V3_4); got != want || err != nil {
		t.Errorf("Fingerprint = %q, %v; want %q", got, err, want)
	}
	if got := Fingerprint(nil); got != "" {
		t.Errorf("Fingerprint(nil) = %q", got)
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]Version{
		"3.4": V3_4, "3.7.11": 3_007_011, "3.10.5": 3_010_005, "3.10": V3_10, "3.11-20250101": 3_011_000,
	} {
		got, err := ParseVersion(in)
		if want2 := strings.TrimSuffix(in, "-20250101"); err != nil || got != want || got.String() != want2 {
			t.Errorf("ParseVersion(%q) = %v (%d), %v", in, got, got, err)
		}
	}
	for _, in := range []string{"", "3", "3.", "3.x", "3.4.5.6", "3.-4", "3.1000", "v3.4", "-3.4"} {
		if got, err := ParseVersion(in); err == nil {
			t.Errorf("ParseVersion(%q) = %v", in, got)
		}
	}
	if !(V3_4 < V3_6 && V3_6 < V3_9 && V3_9 < V3_10) {
		t.Error("the versions are out of order")
	}
}

// The tables of attributes are complete: each has a name, a check, an encoder and a decoder, or
// these panic.
func TestAttributesAreComplete(t *testing.T) {
	full := TLSPolicy{
		Level: LevelSecure, Match: []string{"a.example"}, ServerName: "a", Ciphers: "high", Protocols: []string{"TLSv1.3"},
		Exclude: []string{"MD5"}, TAFiles: []string{"/a"}, ConnectionReuse: Yes, EnableRPK: No, PolicyType: PolicySTS,
		PolicyDomain: "a", PolicyTTL: time.Second, MXHostPatterns: []string{"a"}, PolicyStrings: []string{"a"},
	}
	for a := range attrCount {
		if !full.has(a) && a != attrPolicyFailure {
			t.Errorf("%v is not among the fields", a)
		}
	}
	line, err := full.AppendTo(nil, V3_10)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseTLSPolicy(string(line), V3_10); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("%s\nbecame %+v, %v", line, got, err)
	}
	if got := Level(99).String(); got != "Level(99)" {
		t.Error(got)
	}
}

func TestPolicyString(t *testing.T) {
	for in, want := range map[string]string{
		"version: STSv1":     "version: STSv1",
		"mode:\tenforce":     "mode: enforce",
		" \tx:\t a\tb \t":    "x:  a b",
		"x: {a, b}=c":        "x: {a, b}=c",
		"x: \u00fc":          "x: \u00fc",
		"x: }{":              "",
		"x: {":               "",
		"x: }":               "",
		"a\nb":               "",
		"a\x00b":             "",
		"\xff":               "",
		"":                   "",
		"\t ":                "",
		"a } match=b {":      "",
		"a } { b = c } { d ": "",
	} {
		got, err := PolicyString(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrPolicy) {
			t.Errorf("PolicyString(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// Whatever a stranger's policy has in it: a line that PolicyString lets through can be written.
func FuzzPolicyString(f *testing.F) {
	for _, s := range []string{"mode:\tenforce", "x: {", "x: }{", "\xff", "a\u00a0", " x: a,b=c\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := PolicyString(in)
		if err != nil {
			return
		}
		p := TLSPolicy{Level: LevelMay, PolicyType: PolicySTS, PolicyStrings: []string{s}}
		line, err := p.AppendTo(nil, V3_10)
		if err != nil {
			if len(s) > MaxReply/2 {
				return
			}
			t.Fatalf("%q became %q: %v", in, s, err)
		}
		if got, err := ParseTLSPolicy(string(line), V3_10); err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%q was written as %q, read as %+v, %v", in, line, got, err)
		}
	})
}

func FuzzParseTLSPolicy(f *testing.F) {
	for _, tt := range lines() {
		f.Add(tt.line, uint8(3))
	}
	for _, s := range []string{"may {a=b}", "secure match=a:.b:nexthop", "may { policy_type = sts } policy_string={x}", "none x=y", "may ,\t"} {
		f.Add(s, uint8(0))
	}
	f.Fuzz(func(t *testing.T, line string, i uint8) {
		v := versions()[int(i)%len(versions())]
		p, err := ParseTLSPolicy(line, v)
		if err != nil {
			if !errors.Is(err, ErrPolicy) {
				t.Fatalf("%q: %v is no PolicyError", line, err)
			}
			return
		}
		out, err := p.AppendTo(nil, v)
		if err != nil && len(line) < MaxReply/2 {
			t.Fatalf("%q was read as %+v, which cannot be written: %v", line, p, err)
		}
		if err != nil {
			return
		}
		again, err := ParseTLSPolicy(string(out), v)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%q was read as %+v, written as %q, read as %+v, %v", line, p, out, again, err)
		}
	})
}

// Whatever is put into the fields, the line has as many tokens as attributes were meant: nothing
// injects one.
func FuzzAppendTo(f *testing.F) {
	f.Add("mx.example.com", "hostname", "version: STSv1", "*.example.com")
	f.Add("a b", "x ciphers=null", "a } x = y {", "nexthop")
	f.Fuzz(func(t *testing.T, match, server, text, mx string) {
		p := TLSPolicy{
			Level: LevelSecure, Match: []string{match}, ServerName: server,
			PolicyType: PolicySTS, PolicyStrings: []string{text}, MXHostPatterns: []string{mx},
		}
		line, err := p.AppendTo(nil, V3_10)
		if err != nil {
			return
		}
		if server == "" {
			p.ServerName = ""
		}
		got, err := ParseTLSPolicy(string(line), V3_10)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%+v was written as %q, read as %+v, %v", p, line, got, err)
		}
		if strings.Contains(match, "nexthop") && len(got.Strategies) > 0 {
			t.Fatalf("a host became a strategy: %q", line)
		}
	})
}

func BenchmarkAppendTo(b *testing.B) {
	p := TLSPolicy{Level: LevelSecure, Match: []string{"mx1.example.com", ".example.net"}, ServerName: ServerNameHostname}
	dst := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.AppendTo(dst, V3_10); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTLSPolicy(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTLSPolicy("secure match=mx1.example.com:.example.net servername=hostname", V3_10); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHostForm: the quick look at a host name agrees with the one that gives reasons.
func TestHostForm(t *testing.T) {
	names := []string{
		"", ".", "a", "1", "a.", ".a", "a..b", "a.b", "a.1", "1.a", "a.b1", "mx1.example.com", "MX.Example", "-a.b", "a-.b", "a.-b", "a.b-", "a-b.c", "_a.b",
		"a b", "a:b", "a\x00b", "é.example", "192.0.2.1", "a.b=c", strings.Repeat("a", 63) + ".b", strings.Repeat("a", 64) + ".b",
		strings.Repeat("a.", 126) + "b", strings.Repeat("a.", 127) + "b",
	}
	for _, s := range names {
		if isHost(s) != (whyNoHost(s) == nil) {
			t.Errorf("%q: isHost says %v, whyNoHost %v", s, isHost(s), whyNoHost(s))
		}
	}
}
