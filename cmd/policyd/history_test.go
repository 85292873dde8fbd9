package main

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/control"
	"tlsverdict/internal/history"
	"tlsverdict/internal/verdict"
)

// TestHistoryText: docs/operations.md shows what policyd history prints.
func TestHistoryText(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	book := history.NewBook(100)
	note := func(ago time.Duration, v verdict.Verdict, s verdict.Source, codes ...verdict.Code) {
		o := history.Observation{Time: at(ago), Dest: "example.com", Verdict: v, Source: s}
		for _, code := range codes {
			o.Reasons = append(o.Reasons, verdict.Reason{Code: code})
		}
		book.Note(o)
	}
	note(30*24*time.Hour, verdict.DANEOnly{}, verdict.FromDANE)
	note(11*24*time.Hour, verdict.STS{}, verdict.FromSTS, verdict.MXInsecure, verdict.HostInsecure, verdict.STSEnforce)
	note(3*time.Hour, verdict.Defer{}, verdict.FromNothing, verdict.MXFailed)
	note(140*time.Minute, verdict.NoPolicy{}, verdict.FromNothing, verdict.MXInsecure, verdict.HostInsecure, verdict.STSNone, verdict.Nothing)
	all := control.History{Known: book.States("example.com"), Changes: book.Changes(history.Filter{})}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	new(historyCommand).write(w, &all, now)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "$ policyd history example.com\n"+b.String()+"```\n") {
		t.Errorf("docs/operations.md does not show:\n%s", b.String())
	}
	b.Reset()
	all.Changes[0].Codes = []verdict.Code{"of-another-release"}
	all.Known[0].Waits = at(time.Minute)
	all.More = true
	new(historyCommand).write(w, &all, now)
	_ = w.Flush()
	for _, want := range []string{"of-another-release: a reason of another version\n", "mail is deferred since 2026-11-24 09:29:00Z (1m ago)", "there are earlier ones\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "ahead", 0: "0s ago", 59 * time.Second: "59s ago", time.Minute: "1m ago", 119 * time.Minute: "119m ago", 2 * time.Hour: "2h ago",
		47 * time.Hour: "47h ago", 48 * time.Hour: "2d ago", 400 * 24 * time.Hour: "400d ago",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}
