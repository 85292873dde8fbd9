package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tlsverdict/internal/config"
	"tlsverdict/internal/resolve"
)

// TestShareOut: whatever the limit, the parts never want more than it together, unless
// it is too small to work with at all, which is told apart; and what is wanted is given
// where it fits.
func TestShareOut(t *testing.T) {
	wanted := limits{connections: 4096, questions: 1024, fetches: 64}
	for _, tc := range []struct {
		files int
		want  limits
		fits  bool
	}{
		{1 << 20, limits{1 << 20, 4096, 1024, 64, 0}, true},
		{16384, limits{16384, 4096, 1024, 64, 0}, true},
		{7026, limits{7026, 4096, 1024, 64, 0}, true},
		{7025, limits{7025, 4096, 431, 64, 0}, true},
		{1024, limits{1024, 690, 56, 9, 0}, true},
		{256, limits{256, 114, 8, 1, 0}, true},
		{150, limits{150, 8, 8, 1, 0}, true},
		{100, limits{100, 8, 8, 1, 0}, false},
		{0, limits{0, 8, 8, 1, 0}, false},
	} {
		got := shareOut(tc.files, 1, wanted)
		if got != tc.want || got.fits(1) != tc.fits {
			t.Errorf("%d files: %+v, fits %t; want %+v, %t", tc.files, got, got.fits(1), tc.want, tc.fits)
		}
	}
	for files := 200; files < 20_000; files += 7 {
		if got := shareOut(files, 3, wanted); !got.fits(3) {
			t.Fatalf("%d files: %+v is more than there are", files, got)
		}
		probing := wanted
		probing.probes = 16
		if got := shareOut(files, 3, probing); !got.fits(3) || got.probes < 1 || got.probes > 16 {
			t.Fatalf("%d files: %+v, with probes", files, got)
		}
	}
}

// TestLimitsAreSaid: one record says what the limits are, and a second one when they
// are lower than what the configuration says.
func TestLimitsAreSaid(t *testing.T) {
	for connections, lowered := range map[int]bool{16: false, 1_000_000_000: true} {
		var out bytes.Buffer
		cfg := config.Default()
		cfg.Socketmap.MaxConnections = connections
		l := limit(cfg, slog.New(slog.NewTextHandler(&out, nil)))
		if !strings.Contains(out.String(), "msg=limits files=") {
			t.Errorf("the limits are not said:\n%s", out.String())
		}
		if got := strings.Contains(out.String(), "limits are lowered"); got != lowered {
			t.Errorf("%d connections: lowered %t, want %t:\n%s", connections, got, lowered, out.String())
		}
		if !lowered && (l.connections != connections || l.questions > resolve.DefaultMaxInflight) {
			t.Errorf("%+v", l)
		}
	}
}
