package signal

import (
	"testing"
	"time"
)

// TestPin holds a pin to its rule: nothing that is said in clear text ends it.
func TestPin(t *testing.T) {
	t0 := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	banner := func(age time.Duration, host string) *Banner {
		return &Banner{Pattern: Pattern{Host: host}, MaxAge: age}
	}
	first := Pin{Host: "mx.example.com"}.Renewed(banner(10*time.Hour, "mx.example.com"), t0)
	if !first.Learned.Equal(t0) || !first.Until.Equal(t0.Add(10*time.Hour)) || !first.Holds(t0) || first.Holds(first.Until) {
		t.Fatalf("%+v", first)
	}
	for _, c := range []struct {
		name  string
		after time.Duration
		age   time.Duration
		until time.Duration
		since time.Duration
	}{
		{"shorter", time.Hour, time.Hour, 10 * time.Hour, 0},
		{"zero", time.Hour, 0, 10 * time.Hour, 0},
		{"below zero", time.Hour, -time.Hour, 10 * time.Hour, 0},
		{"longer", time.Hour, 20 * time.Hour, 21 * time.Hour, 0},
		{"beyond the bound", time.Hour, 2 * MaxAge, time.Hour + MaxAge, 0},
		{"after its end", 11 * time.Hour, time.Hour, 12 * time.Hour, 11 * time.Hour},
	} {
		got := first.Renewed(banner(c.age, "example.com"), t0.Add(c.after))
		if !got.Until.Equal(t0.Add(c.until)) || !got.Learned.Equal(t0.Add(c.since)) {
			t.Errorf("%s: until %v, learned %v", c.name, got.Until, got.Learned)
		}
		if c.age > 0 && got.Pattern.Host != "example.com" || c.age <= 0 && got != first {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := (Pin{Host: "mx.example.com"}).Renewed(banner(0, "mx.example.com"), t0); got.Holds(t0) {
		t.Errorf("max-age=0 pins: %+v", got)
	}
	wide := Pin{Pattern: Pattern{Wildcard: true, Host: "example.com"}, IncludeSubDomains: true}
	if s := wide.String(); s != "strict-tls=*.example.com; includeSubDomains" {
		t.Errorf("written as %q", s)
	}
	if s := (&Pin{}).String(); s != "" {
		t.Errorf("of nothing: %q", s)
	}
}
