package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func policy(t testing.TB, mode, mx string, maxAge string) mtasts.Policy {
	t.Helper()
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: " + mode + "\nmx: " + mx + "\nmax_age: " + maxAge + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func key(t testing.TB, secret string) Key {
	t.Helper()
	k, err := NewKey([]byte(strings.Repeat(secret, LeastKey)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fetched is a policy that was fetched before now.
func fetched(t testing.TB, ago time.Duration) mtasts.Cached {
	t.Helper()
	return mtasts.Cached{Domain: "example.com", ID: "7", Policy: policy(t, "enforce", "mx.example.com", "604800"), Fetched: now.Add(-ago)}
}

func pinned(host string, seen, until time.Duration) signal.Pin {
	return signal.Pin{Host: host, Pattern: signal.Pattern{Host: host}, Seen: now.Add(-seen), Until: now.Add(until)}
}

func TestKeysAreLong(t *testing.T) {
	if _, err := NewKey([]byte(strings.Repeat("x", LeastKey-1) + "\n")); err == nil {
		t.Error("a short key is taken")
	}
	k, err := NewKey([]byte(strings.Repeat("x", LeastKey) + " \r\n"))
	if err != nil || k != (Key{strings.Repeat("x", LeastKey)}) {
		t.Errorf("%v, %v; want the key without the white space at its end", k, err)
	}
}

func TestPolicyRecordsComeBack(t *testing.T) {
	for _, k := range []Key{{}, key(t, "a")} {
		for _, id := range []string{"7", ""} {
			c := fetched(t, time.Hour)
			c.ID = id
			got, err := k.readPolicy("example.com", k.writePolicy(c), now)
			if err != nil || got.ID != id || !got.Fetched.Equal(c.Fetched) || got.Policy.Text() != c.Policy.Text() {
				t.Errorf("%+v, %v; want %+v", got, err, c)
			}
		}
	}
}

func TestPinRecordsComeBack(t *testing.T) {
	k := key(t, "a")
	p := pinned("mx.example.com", time.Hour, 24*time.Hour)
	p.Pattern, p.IncludeSubDomains = signal.Pattern{Wildcard: true, Host: "example.com"}, true
	got, err := k.readPin("mx.example.com", k.writePin(&p), now)
	if err != nil || got != p {
		t.Errorf("%+v, %v; want %+v", got, err, p)
	}
}

// TestForeignRecords: what was not written by this fleet counts as nothing.
func TestForeignRecords(t *testing.T) {
	k := key(t, "a")
	good := string(k.writePolicy(fetched(t, time.Hour)))
	resealed := func(old, new string) string {
		_, text, _ := strings.Cut(good, "\n")
		return string(k.seal(strings.Replace(text, old, new, 1)))
	}
	for name, record := range map[string]string{
		"empty":                     "",
		"garbage":                   "\x00\xff garbage",
		"one line":                  recordMark + k.sum(""),
		"no key":                    string(Key{}.writePolicy(fetched(t, time.Hour))),
		"another key":               string(key(t, "b").writePolicy(fetched(t, time.Hour))),
		"another domain":            resealed("policy example.com", "policy example.net"),
		"a pin":                     resealed("policy example.com", "pin example.com"),
		"one octet changed":         strings.Replace(good, "mx.example.com", "mx.example.net", 1),
		"later by hand":             strings.Replace(good, "fetched 1", "fetched 2", 1),
		"no policy":                 resealed("version: STSv1", "version: STSv2"),
		"policy without max_age":    resealed("max_age", "min_age"),
		"no time":                   resealed("fetched 1", "fetched x"),
		"a time before 1970":        resealed("fetched 1", "fetched -1"),
		"a time past all":           resealed("fetched 1", "fetched 99999999"),
		"an id of other characters": resealed("id 7", "id 7;8"),
		"an id too long":            resealed("id 7", "id "+strings.Repeat("7", 33)),
		"too long":                  good + strings.Repeat("\n", maxRecord),
	} {
		if _, err := k.readPolicy("example.com", []byte(record), now); !errors.Is(err, errForeign) {
			t.Errorf("%s: %v; want it foreign", name, err)
		}
	}
}

func TestEndedRecords(t *testing.T) {
	k := key(t, "a")
	for name, ago := range map[string]time.Duration{
		"ended": 604_800 * time.Second, "fetched in the future": -slack - time.Second,
	} {
		if _, err := k.readPolicy("example.com", k.writePolicy(fetched(t, ago)), now); !errors.Is(err, errEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A clock that is a little ahead does not make a policy last longer.
	got, err := k.readPolicy("example.com", k.writePolicy(fetched(t, -time.Minute)), now)
	if err != nil || !got.Fetched.Equal(now) {
		t.Errorf("%v, %v; want it fetched now", got.Fetched, err)
	}
}

func TestPinRecordsAreChecked(t *testing.T) {
	k := key(t, "a")
	for name, c := range map[string]struct {
		pin  signal.Pin
		want error
	}{
		"another host":       {pinned("mx.example.net", 0, time.Hour), errForeign},
		"ended":              {pinned("mx.example.com", time.Hour, -time.Second), errEnded},
		"seen in the future": {pinned("mx.example.com", -time.Hour, 2*time.Hour), errEnded},
	} {
		p := c.pin
		p.Host = "mx.example.com"
		if _, err := k.readPin("mx.example.com", k.writePin(&p), now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	long := pinned("mx.example.com", time.Hour, 10*signal.MaxAge)
	got, err := k.readPin("mx.example.com", k.writePin(&long), now)
	if want := long.Seen.Add(signal.MaxAge); err != nil || !got.Until.Equal(want) {
		t.Errorf("a pin ends at %v, %v; want %v", got.Until, err, want)
	}
}

func TestPlacesAreReadBack(t *testing.T) {
	k := key(t, "a")
	what, name, ok := k.named(k.place(policyKind, "example.com"))
	if what != policyKind || name != "example.com" || !ok {
		t.Error(what, name, ok)
	}
	for _, place := range []string{
		"", k.space(), k.space() + "policy", k.space() + "policy:", k.space() + "policy:EXAMPLE.com", k.space() + "policy:a..b",
		k.space() + "verdict:example.com", key(t, "b").place(policyKind, "example.com"), k.place(pinKind, strings.Repeat("a", 300)),
	} {
		if what, name, ok := k.named(place); ok {
			t.Errorf("%q is %s of %q", place, what, name)
		}
	}
}

// FuzzRecords: nothing that lies in the shared store makes a reader panic, or holds longer
// than it may.
func FuzzRecords(f *testing.F) {
	k := key(f, "a")
	f.Add(k.writePolicy(fetched(f, time.Hour)))
	p := pinned("mx.example.com", time.Hour, time.Hour)
	f.Add(k.writePin(&p))
	f.Add([]byte("policy example.com\nfetched 1 id 7\nversion: STSv1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		// As it is, and as a member of the fleet would have written it.
		for _, r := range [][]byte{record, k.seal(string(record)), k.seal("policy example.com\n" + string(record)), k.seal("pin mx.example.com\n" + string(record))} {
			if c, err := k.readPolicy("example.com", r, now); err == nil && (c.Fetched.After(now) || !c.Fresh(now) || c.Expires().After(now.Add(mtasts.MaxMaxAge))) {
				t.Errorf("%q: %+v", r, c)
			}
			if p, err := k.readPin("mx.example.com", r, now); err == nil && (!p.Holds(now) || p.Until.After(now.Add(signal.MaxAge))) {
				t.Errorf("%q: %+v", r, p)
			}
		}
	})
}

func BenchmarkReadPolicy(b *testing.B) {
	k := key(b, "a")
	record := k.writePolicy(fetched(b, time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.readPolicy("example.com", record, now); err != nil {
			b.Fatal(err)
		}
	}
}
