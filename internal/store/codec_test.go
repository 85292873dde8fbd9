package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

// seal makes the checksum of a record right again.
func seal(domain string, b []byte) []byte {
	body := bytes.Clone(b[:len(b)-sumSize])
	return binary.BigEndian.AppendUint32(body, checksum(domain, body))
}

func TestRecordRoundTrip(t *testing.T) {
	plain := cached(t, "example.com", "20260301", start)
	failed := plain.AfterFailure(start.Add(time.Hour), "2", strings.Repeat("é", 200), 0.3).AfterUse(start.Add(48 * time.Hour))
	none, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: none\nmax_age: 0"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []mtasts.Cached{plain, failed, failed.Retired(start), {Domain: "x", Policy: none}} {
		got, err := decode(c.Domain, encode(c))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
	}
	t.Logf("%d octets for a policy of %d", len(encode(plain)), len(plain.Policy.Text()))
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	good := encode(cached(t, "example.com", "1", start))
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if c, err := decode("example.com", b); err == nil {
				t.Fatalf("octet %d, bit %d: accepted as %+v", i, bit, c)
			}
		}
		if _, err := decode("example.com", good[:i]); err == nil {
			t.Fatalf("accepted when cut to %d octets", i)
		}
	}
	if _, err := decode("example.net", good); !errors.Is(err, errRecord) {
		t.Errorf("another domain's record: %v", err)
	}
	long := seal("example.com", append(bytes.Clone(good), 0))
	if _, err := decode("example.com", long); !errors.Is(err, errRecord) {
		t.Errorf("a longer record: %v", err)
	}
	next := bytes.Clone(good)
	next[0] = 2
	if _, err := decode("example.com", seal("example.com", next)); !errors.Is(err, errVersion) {
		t.Errorf("a record of version 2: %v", err)
	}
	bad := seal("example.com", bytes.Replace(good, []byte("enforce"), []byte("enf0rce"), 1))
	if _, err := decode("example.com", bad); !errors.Is(err, errRecord) || !errors.Is(err, mtasts.ErrBadPolicy) {
		t.Errorf("a record whose policy is none: %v", err)
	}
}

func TestIndexKeysSortByTime(t *testing.T) {
	times := []time.Time{
		time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
		{},
		start, start.Add(1), start.Add(time.Hour),
		time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	var last []byte
	for _, at := range times {
		key := dueKey("example.com", encode(mtasts.Cached{NextTry: at}))
		if bytes.Compare(last, key) >= 0 {
			t.Errorf("%v is not after the one before", at)
		}
		if next, domain := splitDue(key); next != nanos(at) || domain != "example.com" {
			t.Errorf("%v became %d of %q", at, next, domain)
		}
		last = key
	}
	if _, domain := splitDue([]byte("short")); domain != "" || dueKey("x", []byte("short")) != nil {
		t.Error("something too short was read")
	}
}

func FuzzDecode(f *testing.F) {
	c := mtasts.Cached{Domain: "example.com"}.AfterSuccess(start, "1", policy(f, "mail.example.com"), 0)
	f.Add(encode(c))
	f.Add(encode(c.AfterFailure(start, "2", "x", 1)))
	f.Add(encode(mtasts.Cached{}))
	f.Add([]byte{version1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decode("example.com", b)
		_ = dueKey("example.com", b)
		_, _ = splitDue(b)
		if len(b) < headerSize+sumSize {
			return
		}
		// The checksum stops nearly everything: look behind it as well.
		got, err := decode("example.com", seal("example.com", b))
		if err != nil {
			return
		}
		again, err := decode("example.com", encode(got))
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

func TestChangesCompose(t *testing.T) {
	a, b := cached(t, "a.example", "1", start), cached(t, "a.example", "2", start)
	changes := []change{
		{kind: put, cached: a},
		{kind: put, cached: b},
		{kind: touch, at: start.Add(24 * time.Hour)},
		{kind: touch, at: start.Add(48 * time.Hour)},
		{kind: remove},
	}
	old := cached(t, "a.example", "0", start)
	for _, first := range changes {
		for _, second := range changes {
			for _, found := range []bool{true, false} {
				c, ok := first.apply(old, found)
				want, wantOK := second.apply(c, ok)
				got, gotOK := second.after(first).apply(old, found)
				if wantOK != gotOK || wantOK && !reflect.DeepEqual(want, got) {
					t.Errorf("%+v after %+v: %+v, want %+v", second, first, got, want)
				}
			}
		}
	}
}
