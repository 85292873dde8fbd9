package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// profilesEnv names a directory for profiles; they are taken only where it is set.
const profilesEnv = "TLSVERDICT_BENCH_PROFILES"

// profiles takes CPU profiles of the stand-in under the loads of the warm table that
// stress it most, for go tool pprof. It writes nothing into docs.
func profiles(ctx context.Context, t *testing.T, b *bench) (*section, error) {
	to := os.Getenv(profilesEnv)
	if to == "" {
		return nil, fmt.Errorf("%w: %s names no directory for profiles", errLeftOut, profilesEnv)
	}
	p, err := startStandIn(ctx, b.dir, mixed, "")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if _, err := p.tell(order{Do: "fill", End: warmDomains}); err != nil {
		return nil, err
	}
	for _, shape := range []struct {
		name  string
		conns int
		depth int
		pick  func(int) int
	}{{"unix-8", 8, 1, nil}, {"unix-64", 64, 1, nil}, {"unix-8-deep", 8, 16, nil}} {
		const long = 4 * time.Second
		l := load{shape.conns, shape.depth, warmDomains, 0, long + time.Second, shape.pick}
		failed := make(chan error, 1)
		go func() {
			_, err := l.run(ctx, p, p.unix)
			failed <- err
		}()
		if _, err := p.tell(order{Do: "cpu", TTL: long, File: filepath.Join(to, shape.name+".pprof")}); err != nil {
			return nil, err
		}
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	return new(section), nil
}
