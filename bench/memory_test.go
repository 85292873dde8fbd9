package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// megabytes writes bytes.
func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

// bytesEach fills a stand-in with domains of one kind, and returns what lives on its
// heap for each of them.
func (b *bench) bytesEach(ctx context.Context, k kind, domains int) (float64, error) {
	dir, err := b.sub("memory")
	if err != nil {
		return 0, err
	}
	p, err := startStandIn(ctx, dir, k, "")
	if err != nil {
		return 0, err
	}
	defer p.stop()
	// Explanations are kept of the last two thousand domains only, and are no part of
	// what a domain costs: they are there before.
	const explained = 2500
	if _, err := p.tell(order{Do: "fill", First: domains, End: domains + explained}); err != nil {
		return 0, err
	}
	before, err := p.tell(order{Do: "collect"})
	if err != nil {
		return 0, err
	}
	if _, err := p.tell(order{Do: "fill", End: domains}); err != nil {
		return 0, err
	}
	after, err := p.tell(order{Do: "collect"})
	return float64(after.Heap-before.Heap) / float64(domains), err
}

// whole fills a stand-in with a mixed million and measures the process.
type whole struct {
	empty, full, saving int64
	heap                uint64
	entries             int
}

func (b *bench) wholeProcess(ctx context.Context, domains int) (w whole, err error) {
	dir, err := b.sub("whole")
	if err != nil {
		return w, err
	}
	p, err := startStandIn(ctx, dir, mixed, filepath.Join(dir, "policyd.db"))
	if err != nil {
		return w, err
	}
	defer p.stop()
	w.empty = p.memory("VmRSS")
	a, err := p.tell(order{Do: "fill", End: domains})
	if err != nil {
		return w, err
	}
	w.full = p.memory("VmRSS")
	if err := p.resetPeak(); err != nil {
		return w, err
	}
	if _, err := p.tell(order{Do: "keep", End: domains}); err != nil {
		return w, err
	}
	w.saving, w.entries = p.memory("VmHWM"), a.Entries
	if a, err = p.tell(order{Do: "collect"}); err != nil {
		return w, err
	}
	w.heap = a.Heap
	return w, nil
}

// measureMemory is what domains cost.
func measureMemory(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	const each = 200_000
	target := map[kind]float64{plain: 400, dane: 700, sts: 700}
	var rows [][]string
	for _, k := range []kind{plain, dane, sts} {
		n, err := b.bytesEach(ctx, k, each)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []string{"a domain: " + k.String(), fmt.Sprintf("%.0f bytes", n), fmt.Sprintf("%.0f bytes", target[k]), met(n <= target[k])})
	}
	w, err := b.wholeProcess(ctx, million)
	if err != nil {
		return nil, err
	}
	rows = append(rows,
		[]string{"process with nothing known", megabytes(w.empty), "", ""},
		[]string{fmt.Sprintf("process with 1,000,000 mixed domains (%d kept)", w.entries), megabytes(w.full), "600 MB", met(w.full <= 600e6)},
		[]string{"of it alive", megabytes(int64(w.heap)), "", ""},
		[]string{"its peak while 150,000 policies are stored", megabytes(w.saving), "twice that", met(w.saving < 2*w.full)},
	)
	real, err := b.realProcess(ctx, t, 100_000)
	if err != nil {
		return nil, err
	}
	rows = append(rows, []string{"policyd serve with 100,000 mixed domains, learnt over DNS", megabytes(real), "", ""})
	var text strings.Builder
	text.WriteString("Bytes a domain are what lives on the heap; a process is its resident memory (VmRSS), garbage and the mapped store included. ")
	text.WriteString("A million are filled in the stand-in, since to learn them over DNS takes minutes.\n\n")
	text.WriteString(markdown([]string{"what", "measured", "target", ""}, rows))
	return &section{text: text.String()}, nil
}

// realProcess is the resident memory of a policyd that has learnt some domains.
func (b *bench) realProcess(ctx context.Context, t *testing.T, domains int) (int64, error) {
	began := time.Now()
	p, stop, err := b.startWarm(ctx, t, domains)
	if err != nil {
		return 0, err
	}
	defer stop()
	t.Logf("%d domains after %v", domains, time.Since(began).Round(time.Second))
	return p.memory("VmRSS"), nil
}
