package status

import (
	"fmt"
	"testing"
	"time"
)

func TestDeferrals(t *testing.T) {
	var l Deferrals
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minute int) time.Time { return begin.Add(time.Duration(minute) * time.Minute) }
	l.Passed("never.example", at(0))
	l.Deferred(Deferral{Destination: "a.example", Reason: "mx-failed", Fault: "remote", Last: at(1)})
	l.Deferred(Deferral{Destination: "b.example", Reason: "no-proof", Fault: "operator", Last: at(2)})
	l.Deferred(Deferral{Destination: "a.example", Reason: "tlsa-failed", Fault: "remote", Last: at(3)})
	list, _ := l.List()
	if len(list) != 2 || list[0].Destination != "a.example" || list[0].Times != 2 || list[0].Reason != "tlsa-failed" || !list[0].First.Equal(at(1)) {
		t.Fatalf("%+v", list)
	}
	l.Passed("a.example", at(4))
	l.Passed("a.example", at(5))
	list, _ = l.List()
	if list[0].Destination != "b.example" || !list[1].Over.Equal(at(4)) {
		t.Errorf("what is over does not come last: %+v", list)
	}
	l.Deferred(Deferral{Destination: "a.example", Last: at(9)})
	if list, _ = l.List(); list[0].Times != 1 || !list[0].First.Equal(at(9)) || !list[0].Over.IsZero() {
		t.Errorf("it does not begin anew: %+v", list[0])
	}
}

// TestDeferralsHaveABound: many destinations push the oldest out, those first that are
// over.
func TestDeferralsHaveABound(t *testing.T) {
	var l Deferrals
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l.Deferred(Deferral{Destination: "waits.example", Last: at})
	l.Deferred(Deferral{Destination: "over.example", Last: at.Add(time.Hour)})
	l.Passed("over.example", at.Add(time.Hour))
	for i := range MaxDeferrals - 1 {
		l.Deferred(Deferral{Destination: fmt.Sprintf("%d.example", i), Last: at.Add(time.Duration(i+1) * time.Second)})
	}
	list, leftOut := l.List()
	if len(list) != MaxDeferrals || leftOut != 0 || list[len(list)-1].Destination != "waits.example" {
		t.Errorf("%d, %d left out, the last is %+v", len(list), leftOut, list[len(list)-1])
	}
	l.Deferred(Deferral{Destination: "new.example", Last: at.Add(time.Hour)})
	list, leftOut = l.List()
	if len(list) != MaxDeferrals || leftOut != 1 || list[0].Destination != "new.example" || list[len(list)-1].Destination != "0.example" {
		t.Errorf("%d, %d left out, %+v", len(list), leftOut, list[len(list)-1])
	}
}
