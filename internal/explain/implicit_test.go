package explain

import (
	"strings"
	"testing"
	"time"
)

// TestImplicitText: a reader sees whether the port is used, and how each host is.
func TestImplicitText(t *testing.T) {
	hosts := []Port{
		{Host: "smtps-a.example.com", State: "good", By: "dane", Until: now.Add(40 * time.Minute), Next: now.Add(10 * time.Minute)},
		{Host: "smtps-b.example.com", State: "bad", Stage: "connect", Error: "connection reset by peer", Next: now.Add(5 * time.Minute)},
		{Host: "smtps-c.example.com", State: "unknown"},
	}
	for want, i := range map[string]*Implicit{
		`
implicit TLS on port 26
  not used: not every host has proved itself lately
  smtps-a.example.com  good     by dane, for 40m, looked at again in 10m if it is wanted
  smtps-b.example.com  bad      connect: connection reset by peer, looked at again in 5m if it is wanted
  smtps-c.example.com  unknown  not looked at lately
`: {Port: 26, Because: "not every host has proved itself lately", Hosts: hosts},
		`
implicit TLS on port 465
  used: mail is sent there
  smtps-a.example.com  good     by dane, for 40m, looked at again in 10m if it is wanted
`: {Port: 465, Used: true, Hosts: hosts[:1]},
	} {
		r := &Report{Destination: "example.com", Verdict: "secure", Source: "prefix", Implicit: i}
		var b strings.Builder
		if err := r.WriteText(&b, Plain, now); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) {
			t.Errorf("want\n%s\ngot\n%s", want, b.String())
		}
	}
}

// TestImplicitFits: what a stranger's host said is cut like everything else.
func TestImplicitFits(t *testing.T) {
	r := &Report{Implicit: &Implicit{Hosts: []Port{{Error: strings.Repeat("x", 50_000)}}}}
	if err := r.Fit(40_000); err != nil || len(r.Implicit.Hosts[0].Error) > 10_000 || !r.Truncated {
		t.Errorf("%v, %d", err, len(r.Implicit.Hosts[0].Error))
	}
}
