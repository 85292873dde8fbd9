package history

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"tlsverdict/internal/verdict"
)

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// world notes verdicts, a minute apart.
type world struct {
	*Book
	now time.Time
}

func newWorld(records int) *world { return &world{NewBook(records), start()} }

func (w *world) note(dest string, v verdict.Verdict, s verdict.Source, codes ...verdict.Code) *Change {
	w.now = w.now.Add(time.Minute)
	o := Observation{Time: w.now, Dest: dest, Verdict: v, Source: s, Until: w.now.Add(time.Hour)}
	for _, code := range codes {
		o.Reasons = append(o.Reasons, verdict.Reason{Code: code})
	}
	c, _ := w.Note(o)
	return c
}

func (w *world) none(dest string) *Change {
	return w.note(dest, verdict.NoPolicy{}, verdict.FromNothing, verdict.STSAbsent, verdict.Nothing)
}

func (w *world) strict(dest string) *Change {
	return w.note(dest, verdict.STS{}, verdict.FromSTS, verdict.STSEnforce)
}

func (w *world) deferred(dest string) *Change {
	return w.note(dest, verdict.Defer{}, verdict.FromNothing, verdict.MXFailed)
}

func TestNote(t *testing.T) {
	const d = "a.example"
	for name, c := range map[string]struct {
		do   func(w *world)
		want string
	}{
		"first is none":               {func(w *world) { w.strict(d) }, ""},
		"the same is none":            {func(w *world) { w.strict(d); w.strict(d) }, ""},
		"none after none":             {func(w *world) { w.none(d); w.none(d) }, ""},
		"none to strict":              {func(w *world) { w.none(d); w.strict(d) }, "none>secure by mta-sts"},
		"strict to none":              {func(w *world) { w.strict(d); w.none(d) }, "secure by mta-sts>none expired"},
		"and none after that":         {func(w *world) { w.strict(d); w.none(d); w.none(d) }, "secure by mta-sts>none expired"},
		"and back":                    {func(w *world) { w.strict(d); w.none(d); w.strict(d) }, "secure by mta-sts>none expired; none>secure by mta-sts"},
		"deferral is none":            {func(w *world) { w.strict(d); w.deferred(d); w.strict(d) }, ""},
		"of what is not known, too":   {func(w *world) { w.deferred(d); w.none(d) }, ""},
		"strict, deferred, lax":       {func(w *world) { w.strict(d); w.deferred(d); w.deferred(d); w.none(d) }, "secure by mta-sts>none expired waited 2m0s"},
		"deferred and back, then lax": {func(w *world) { w.strict(d); w.deferred(d); w.strict(d); w.none(d) }, "secure by mta-sts>none expired"},
		"dane to sts is no downgrade": {func(w *world) { w.note(d, verdict.DANEOnly{}, verdict.FromDANE); w.strict(d) }, "dane-only by dane>secure by mta-sts"},
		"sts to dane of some": {func(w *world) {
			w.strict(d)
			w.note(d, verdict.DANE{}, verdict.FromDANE, verdict.TLSAUsable, verdict.DANESome)
		}, "secure by mta-sts>dane by dane tlsa"},
		"one kind, two sources": {func(w *world) { w.strict(d); w.note(d, verdict.WebPKI{}, verdict.FromPrefix) }, "secure by mta-sts>secure by prefix"},
		"an override ends": {func(w *world) {
			w.note(d, verdict.Fixed{Level: "encrypt"}, verdict.FromOverride, verdict.Overridden)
			w.none(d)
		}, "encrypt by override>none override-ended"},
		"an override switches TLS off": {func(w *world) {
			w.none(d)
			w.note(d, verdict.Fixed{Level: "none"}, verdict.FromOverride, verdict.Overridden)
		}, "none>none by override override"},
		"what is not sure is not learned": {func(w *world) {
			w.Note(Observation{Time: w.now, Dest: d, Verdict: verdict.NoPolicy{}, Provisional: true})
			w.strict(d)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(100)
			c.do(w)
			got := ""
			list := w.Changes(Filter{})
			slices.Reverse(list)
			for _, c := range list {
				if got != "" {
					got += "; "
				}
				got += c.Before.String() + ">" + c.After.String()
				if c.Downgrade {
					got += " " + string(c.Cause)
				}
				if !c.Waited.IsZero() {
					got += " waited " + c.Time.Sub(c.Waited).String()
				}
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestStrangersDoNotWashItOut: mail to domains that do not exist, and a hostile domain with
// any number of names that come and go, leave the records and the last verdicts of others.
func TestStrangersDoNotWashItOut(t *testing.T) {
	w := newWorld(1000)
	for i := range 900 {
		dest := fmt.Sprintf("honest-%d.example.com", i%3)
		if i > 2 {
			dest = fmt.Sprintf("honest%d.org", i)
		}
		w.strict(dest)
		w.none(dest)
	}
	for i := range 20_000 {
		w.none(fmt.Sprintf("made-up-%d.example.net", i))
		dest := fmt.Sprintf("x%d.hostile.co.uk:%d", i, i%7+1)
		w.strict(dest)
		w.none(dest)
		w.strict("flapping.example.net")
		w.none("flapping.example.net")
		if w.Crowded() {
			w.Trim(w.now)
		}
	}
	w.Trim(w.now)
	kept := map[string]int{}
	for _, c := range w.Changes(Filter{}) {
		kept[ownerOf(nameOf(c.Dest))]++
	}
	for i := 3; i < 900; i++ {
		if kept[fmt.Sprintf("honest%d.org", i)] != 1 {
			t.Fatalf("honest%d.org: %d records", i, kept[fmt.Sprintf("honest%d.org", i)])
		}
	}
	if s := w.Stats(); s.Records > 1000 || kept["example.net"] > MaxOfDest || kept["hostile.co.uk"] > 1000-900 {
		t.Errorf("%+v, %d, %d", s, kept["example.net"], kept["hostile.co.uk"])
	}
}

// TestKnownIsBounded: the same for last verdicts, also where a provider gives names away.
func TestKnownIsBounded(t *testing.T) {
	const most = 800
	w := newWorld(10)
	w.most = most
	w.strict("honest.example")
	for i := range most * 2 {
		w.strict(fmt.Sprintf("x%d.github.io", i))
		if i%(most/slack) == 0 {
			w.Trim(w.now)
		}
	}
	w.Trim(w.now)
	if s := w.Stats(); s.Known != most || s.Forgotten == 0 {
		t.Errorf("%+v", s)
	}
	if c := w.none("honest.example"); c == nil || !c.Downgrade {
		t.Errorf("%+v", c)
	}
	// Without anybody to trim it ends at the slack.
	for i := range most {
		w.strict(fmt.Sprintf("y%d.example", i))
	}
	if s := w.Stats(); s.Known > most+most/slack {
		t.Errorf("%+v", s)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	w := newWorld(100)
	for i := range 1000 {
		w.strict(fmt.Sprintf("x%d.example", i))
		w.none(fmt.Sprintf("x%d.example", i))
	}
	if s := w.Stats(); s.Records != 106 || s.Dropped != 894 || s.Changes != 1000 || s.Downgrades != 1000 {
		t.Errorf("%+v", s)
	}
	w.Trim(w.now)
	if s := w.Stats(); s.Records != 100 {
		t.Errorf("%+v", s)
	}
	w.Trim(w.now.Add(Keep + 24*time.Hour))
	if s := w.Stats(); s.Records != 0 || s.Known != 0 {
		t.Errorf("after %v: %+v", Keep, s)
	}
}

func TestFilter(t *testing.T) {
	w := newWorld(100)
	for range 3 {
		for _, dest := range []string{"a.example", "a.example:26", "[a.example]", "b.example", "sub.a.example"} {
			w.strict(dest)
			w.none(dest)
		}
	}
	for i, c := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 25},
		{Filter{Name: "a.example"}, 15},
		{Filter{Name: "b.example"}, 5},
		{Filter{Downgrades: true}, 15},
		{Filter{Max: 4}, 4},
		{Filter{Before: 11}, 10},
		{Filter{Since: w.now}, 1},
		{Filter{Name: "c.example"}, 0},
	} {
		list := w.Changes(c.f)
		if len(list) != c.want {
			t.Errorf("%d: %d records", i, len(list))
		}
		if !slices.IsSortedFunc(list, func(a, b Change) int { return int(b.Seq) - int(a.Seq) }) {
			t.Errorf("%d: not in order", i)
		}
	}
	if got := w.States("a.example"); len(got) != 3 || got[0].Dest != "[a.example]" || got[1].Verdict != "none" {
		t.Errorf("%+v", got)
	}
}

func TestOff(t *testing.T) {
	w := newWorld(0)
	w.strict("a.example")
	if w.none("a.example") != nil || w.Waiting() != 0 {
		t.Error("something is kept")
	}
	w = newWorld(10)
	w.strict("a.example")
	w.none("a.example")
	w.Written(w.Batch(), nil)
	w.SetLimit(0, w.now)
	if s := w.Stats(); s.Records != 0 || s.Known != 0 {
		t.Errorf("%+v", s)
	}
	if b := w.Batch(); len(b.Changes) != 1 || len(b.States) != 1 || b.States["a.example"] != nil {
		t.Errorf("%+v: not dropped from the file", b)
	}
}

// TestFileFollows plays at random: whatever is written, fails, is dropped or comes back, the
// file has in the end what the book has, and what waits is bounded.
func TestFileFollows(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(20)
		changes, states := map[uint64]Change{}, map[string]State{}
		write := func(err error) {
			b := w.Batch()
			if len(b.Changes) > 100 || len(b.States) > 200 {
				t.Fatalf("%d and %d wait", len(b.Changes), len(b.States))
			}
			// Others go on meanwhile.
			w.none(fmt.Sprintf("x%d.example", r.IntN(30)))
			w.Trim(w.now)
			if err == nil {
				for seq, c := range b.Changes {
					delete(changes, seq)
					if c != nil {
						changes[seq] = *c
					}
				}
				for dest, s := range b.States {
					delete(states, dest)
					if s != nil {
						states[dest] = *s
					}
				}
			}
			w.Written(b, err)
		}
		for range 500 {
			dest := fmt.Sprintf("x%d.example", r.IntN(30))
			switch r.IntN(8) {
			case 0:
				write(nil)
			case 1:
				write(errors.New("full"))
			case 2, 3:
				w.none(dest)
			case 4:
				w.Trim(w.now)
			case 5:
				w.mu.Lock()
				if _, found := w.known[dest]; found {
					w.forget(dest)
				}
				w.mu.Unlock()
			default:
				w.strict(dest)
			}
		}
		for w.Waiting() > 0 {
			write(nil)
		}
		again := NewBook(20)
		var cs []Change
		for _, c := range changes {
			cs = append(cs, c)
		}
		var ss []State
		for _, s := range states {
			ss = append(ss, s)
		}
		again.Load(cs, ss)
		if got, want := again.Changes(Filter{}), w.Changes(Filter{}); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: file %d records, book %d", seed, len(got), len(want))
		}
		for dest := range w.known {
			if states[dest].Step != w.known[dest].Step {
				t.Fatalf("seed %d: %s: file %v, book %v", seed, dest, states[dest], w.known[dest])
			}
		}
		if len(states) != len(w.known) {
			t.Fatalf("seed %d: file %d, book %d", seed, len(states), len(w.known))
		}
	}
}

// TestLoadLate: a file that could not be read at first is older than what came since.
func TestLoadLate(t *testing.T) {
	old := newWorld(10)
	old.strict("a.example")
	old.none("a.example")
	old.strict("b.example")
	b := old.Batch()
	var changes []Change
	for _, c := range b.Changes {
		changes = append(changes, *c)
	}
	var states []State
	for _, s := range b.States {
		states = append(states, *s)
	}
	w := newWorld(10)
	w.now = w.now.Add(time.Hour)
	w.strict("c.example")
	w.none("c.example")
	w.none("b.example")
	w.Load(changes, states)
	if c := w.none("b.example"); c == nil || !c.Downgrade {
		t.Errorf("%+v", c)
	}
	list := w.Changes(Filter{})
	if len(list) != 3 || list[2].Dest != "a.example" || list[1].Dest != "c.example" || list[0].Dest != "b.example" {
		t.Errorf("%+v", list)
	}
	if got := w.Batch(); len(got.Changes) != 2 {
		t.Errorf("%+v is written", got.Changes)
	}
}

func TestOwnerOf(t *testing.T) {
	for name, want := range map[string]string{
		"example.com": "example.com", "a.b.example.com": "example.com", "x.example.co.uk": "example.co.uk", "com": "com", "co.uk": "co.uk",
		"x.y.github.io": "github.io", "localhost": "localhost", "a.b.unheard-of": "b.unheard-of", "": "",
	} {
		if got := ownerOf(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestSurplus(t *testing.T) {
	var items []item[int]
	add := func(owner string, n int) {
		for range n {
			items = append(items, item[int]{len(items), owner, start().Add(time.Duration(len(items)) * time.Second)})
		}
	}
	add("a.example", 10)
	add("b.example", 4)
	add("c.example", 1)
	for limit, want := range map[int][]int{
		15: nil, 14: {0}, 9: {0, 1, 2, 3, 4, 5}, 3: {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}, 2: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		0: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
	} {
		got := surplus(slices.Clone(items), limit)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
}

func BenchmarkNoteSame(b *testing.B) {
	w := newWorld(10_000)
	o := Observation{Time: start(), Dest: "a.example", Verdict: verdict.DANEOnly{}, Source: verdict.FromDANE}
	w.Note(o)
	b.ReportAllocs()
	for b.Loop() {
		w.Note(o)
	}
}

func BenchmarkNoteNone(b *testing.B) {
	w := newWorld(10_000)
	o := Observation{Time: start(), Dest: "a.example", Verdict: verdict.NoPolicy{}}
	b.ReportAllocs()
	for b.Loop() {
		w.Note(o)
	}
}
