package finding

import "testing"

func TestWorstAndCount(t *testing.T) {
	for _, tc := range []struct {
		all   []Severity
		worst Severity
		count string
	}{
		{nil, Unknown, ""},
		{[]Severity{OK, OK}, OK, ""},
		{[]Severity{OK, Unknown, Unknown}, Unknown, "2 unknown"},
		{[]Severity{OK, Notice, Unknown}, Notice, "1 notice, 1 unknown"},
		{[]Severity{Warning, Error, Warning, OK, Error, Notice}, Error, "2 errors, 2 warnings, 1 notice"},
	} {
		if got := Worst(tc.all); got != tc.worst {
			t.Errorf("of %v the worst is %v, want %v", tc.all, got, tc.worst)
		}
		if got := Count(tc.all); got != tc.count {
			t.Errorf("%v are %q, want %q", tc.all, got, tc.count)
		}
	}
	if zero := new(Severity); *zero != Unknown {
		t.Errorf("the zero value is %v", *zero)
	}
}
