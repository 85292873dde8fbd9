package world_test

import (
	"flag"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
)

// update is the command line's, set before any test runs.
var update = flag.Bool("update", false, "write what was got into the want lines of the scenarios; the run fails all the same")

// TestScenarios plays every file of testdata/scenarios, in every mode that it allows,
// on both faces of the daemon.
func TestScenarios(t *testing.T) {
	files, err := scenarioFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(scenarioName(file), func(t *testing.T) {
			t.Parallel()
			s, err := readScenario(file)
			if err != nil {
				t.Fatal(err)
			}
			playAll(t, s)
		})
	}
}

func playAll(t *testing.T, s *scenario) {
	wants := make(map[int]string)
	var mu sync.Mutex
	for _, m := range s.modes() {
		for _, f := range []face{postfixFace, jsonFace} {
			t.Run(fmt.Sprintf("%v/%s", m, f), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, err := newPlayer(t, s, manner{f, m})
					if err != nil {
						t.Fatal(err)
					}
					defer p.end()
					p.play()
					mu.Lock()
					defer mu.Unlock()
					maps.Copy(wants, p.wants)
				})
			})
		}
	}
	if *update && len(wants) > 0 {
		if err := s.rewrite(wants); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s has %d new wants: read them", s.file, len(wants))
	}
}
