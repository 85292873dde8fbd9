package milter

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/daemon"
	"tlsverdict/internal/milterd"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/store"
)

func parse(t *testing.T, text string) *config.Milter {
	t.Helper()
	cfg, err := config.ParseMilter("milter.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestRules: every word of a [[require]] is one of milterd's, and means the same.
func TestRules(t *testing.T) {
	var text strings.Builder
	for _, minimum := range []string{"encrypted", "authenticated", "dane"} {
		for _, action := range []string{"reject", "tempfail", "hold", "annotate"} {
			text.WriteString("[[require]]\nminimum = '" + minimum + "'\naction = '" + action + "'\n")
		}
	}
	all, err := rules(parse(t, "[annotate]\nheader = 'X'\n"+text.String()))
	if err != nil || len(all) != 12 {
		t.Fatalf("%d rules, %v", len(all), err)
	}
	for _, r := range all {
		words := "minimum = '" + r.Minimum.String() + "'\naction = '" + r.Action.String() + "'\n"
		if !strings.Contains(text.String(), words) {
			t.Errorf("a rule has %q", words)
		}
	}
	all, err = rules(parse(t, "[[require]]\nminimum='dane'\nauthenticated=false\n[[require]]\nminimum='dane'\nauthenticated='legal-*'\nheader='A: b'\nsubject_tag='c'\nsender='<>'\n"))
	if err != nil || all[0].Login != milterd.NotLoggedIn || all[1].Login != milterd.LoggedIn || all[1].User != "legal-*" ||
		all[1].HeaderName != "A" || all[1].HeaderValue != "b" || all[1].SubjectTag != "c" || all[1].Line != 4 || !all[1].Sender.Match("") {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = rules(parse(t, "[[require]]\nminimum='dane'\nsender='x'\nrecipient='y'\n"))
	var unusable *daemon.ConfigError
	if !errors.As(err, &unusable) || strings.Count(err.Error(), "\n") != 1 || !strings.HasPrefix(err.Error(), "milter.toml:3: require.sender") {
		t.Errorf("%v", err)
	}
}

// TestLoad: a file that is named must be there, and a wrong one cannot be used.
func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "milter.toml")
	var unusable *daemon.ConfigError
	if _, err := Load(file); !errors.As(err, &unusable) {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("[milter]\non_error = 'accept'\nlocal_domains = ['Here.Example']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := settings(cfg, nil)
	if err != nil || set.OnError != milterd.ErrorAccept || !set.LocalDomains["here.example"] || !set.LocalMailers["virtual"] || !set.Prefetch {
		t.Errorf("%+v, %v", set, err)
	}
}

// TestNeedRestart: what a reload cannot change is named, and nothing else.
func TestNeedRestart(t *testing.T) {
	old := parse(t, "")
	if got := needRestart(old, parse(t, "[milter]\ndeadline = '9s'\n[annotate]\nheader = 'X'\n")); got != nil {
		t.Errorf("%v", got)
	}
	next := parse(t, "[milter]\nlisten = ['unix:/x']\nmax_connections = 7\nverdicts = ''\n[log]\nformat = 'json'\n")
	want := []string{"milter.listen or milter.socket_mode", "milter.max_connections", "milter.verdicts", "log.format"}
	if got := needRestart(old, next); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestInProcess: a milter that decides by itself has the verdicts that policyd would have,
// and says whose fault it is that it has none.
func TestInProcess(t *testing.T) {
	silent := slog.New(slog.DiscardHandler)
	cfg := parse(t, "[milter]\nverdicts = ''\n[dns]\nservers = ['127.0.0.1:1']\ntimeout = '100ms'\n[store]\npath = ''\n[[override]]\ndomain = 'forced.example'\npolicy = 'secure match=mx.forced.example'\nreason = 'so'\n")
	st, err := store.Open("", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s, err := newSource(cfg, st, silent)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Start()
	forced := nexthop.Destination{Name: "forced.example", Port: nexthop.SMTPPort}
	v, err := s.Ask(t.Context(), forced)
	if err != nil || v.Name != "secure" || v.Source != "override" || v.Level != milterd.Authenticated {
		t.Errorf("%+v, %v", v, err)
	}
	if why := s.Why(t.Context(), forced, v); !strings.Contains(why, "so") {
		t.Errorf("why: %q", why)
	}
	v, err = s.Ask(t.Context(), nexthop.Destination{Name: "unknown.example", Port: nexthop.SMTPPort})
	if err != nil || !v.Waits || v.Fault != "operator" || v.Level != milterd.Clear {
		t.Errorf("without a name server: %+v, %v", v, err)
	}
	if err := s.Warm(t.Context(), forced); err != nil {
		t.Error(err)
	}
}
