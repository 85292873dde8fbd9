package engine

import (
	"crypto/sha256"

	"tlsverdict/internal/verdict"
)

// Sizes are estimates, in bytes, of what a verdict or its facts hold beyond a
// fixed part. They only have to grow as the memory does: a remote zone chooses how
// many records it has, and must not choose how much memory this program takes.

// weight is how many places a size takes in a cache of room places: at most an
// eighth, since what weighs more than the whole would never be kept.
func weight(size, unit, room int) uint32 {
	return uint32(min(1+size/unit, max(1, room/8)))
}

// size is that of a verdict.
func size(v verdict.Verdict) int {
	switch v := v.(type) {
	case verdict.STS:
		return lengths(v.Patterns) + lengths(v.Lines) + lengths(v.Hosts)
	case verdict.WebPKI:
		return lengths(v.Hosts)
	case verdict.DANE:
		return lengths(v.Hosts)
	case verdict.Fingerprint:
		return len(v.Digests) * sha256.Size
	case verdict.NoPolicy:
		if v.Report != nil {
			return lengths(v.Report.Patterns) + lengths(v.Report.Lines)
		}
	}
	return 0
}

// besideSize is that of what stands beside a verdict.
func besideSize(b *verdict.Beside) int {
	if b == nil {
		return 0
	}
	n := lengths(b.Implicit)
	if b.STS != nil {
		n += size(*b.STS)
	}
	return n
}

// size is that of an explanation.
func (x *Explanation) size() int {
	const (
		host    = 1024
		trail   = 512 // of one answer: a few steps
		record  = 96
		address = 24
		reason  = 128
	)
	n := size(x.Ruling.Verdict) + host*len(x.Facts.Hosts) + record*len(x.Facts.MX.Records) + reason*len(x.Ruling.Reasons)
	if x.Facts.MX.Trail != nil {
		n += trail * (2 + 4*len(x.Facts.Hosts))
	}
	for i := range x.Facts.Hosts {
		h := &x.Facts.Hosts[i]
		n += address * (len(h.A.Records) + len(h.AAAA.Records))
		for _, l := range h.TLSA {
			for _, r := range l.Answer.Records {
				n += record + len(r.Data)
			}
		}
	}
	if p := x.Facts.STS.Policy; p != nil {
		n += lengths(p.Policy.Lines) + record*len(p.Policy.MX)
	}
	if x.Ruling.Would != nil {
		n += size(x.Ruling.Would.Verdict)
	}
	return n + lengths(x.Facts.STS.Record.Records) + lengths(x.Facts.TXT.Records) + lengths(x.Facts.RR.Records)
}

func lengths(list []string) int {
	const header = 16
	n := 0
	for _, s := range list {
		n += len(s) + header
	}
	return n
}
