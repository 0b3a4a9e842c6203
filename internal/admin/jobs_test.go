package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

func (lonely) Plan(_ context.Context, w Wish) (Plan, error) {
	if w.Kind == "dance" {
		return Plan{}, fmt.Errorf("%w: no kind of change", ErrBadRequest)
	}
	return Plan{Kind: w.Kind, Nodes: w.Nodes}, nil
}

func (lonely) Begin(_ context.Context, w Wish) (Job, error) {
	if w.Epoch != 7 {
		return Job{}, fmt.Errorf("%w: the cluster has changed", ErrConflict)
	}
	return Job{ID: 3, Kind: w.Kind, State: JobRunning}, nil
}

func (lonely) Jobs(context.Context) (Jobs, error) { return Jobs{Epoch: 7}, nil }

func (lonely) Steer(_ context.Context, o Order) (Jobs, error) {
	if o.Do == "pause" {
		return Jobs{}, errors.New("too few managers")
	}
	return Jobs{Epoch: 8, Throttle: o.Throttle}, nil
}

func TestJobPages(t *testing.T) {
	s := newServer(always(serving()))
	for _, test := range []struct {
		path, kind, body string
		code             int
		says             string
	}{
		{"/v1/plan", "application/json", `{"kind":"detach","nodes":["n1"]}`, 200, `"n1"`},
		{"/v1/plan", "application/json; charset=utf-8", `{"kind":"dance"}`, 400, "no kind of change"},
		{"/v1/plan", "text/plain", `{"kind":"detach"}`, 400, "Content-Type"}, // what a foreign page may send
		{"/v1/plan", "", `{"kind":"detach"}`, 400, "Content-Type"},
		{"/v1/plan", "application/json", `{"kind":"detach","what":1}`, 400, "what"},
		{"/v1/plan", "application/json", `{"kind":"detach"} x`, 400, "after the JSON"},
		{"/v1/plan", "application/json", ``, 400, "EOF"},
		{"/v1/plan", "application/json", `{"kind":"` + strings.Repeat("x", maxBody) + `"}`, 400, "too large"},
		{"/v1/jobs", "application/json", `{"kind":"detach","epoch":7}`, 200, `"id": 3`},
		{"/v1/jobs", "application/json", `{"kind":"detach","epoch":6}`, 409, "has changed"},
		{"/v1/job", "application/json", `{"do":"throttle","throttle":5}`, 200, `"throttle": 5`},
		{"/v1/job", "application/json", `{"do":"throttle","throttle":0}`, 200, `"throttle": 0`},
		{"/v1/job", "application/json", `{"do":"throttle"}`, 400, "say how many"},
		{"/v1/job", "application/json", `{"do":"pause"}`, 503, "too few managers"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", test.path, strings.NewReader(test.body))
		if test.kind != "" {
			r.Header.Set("Content-Type", test.kind)
		}
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != test.code || !strings.Contains(w.Body.String(), test.says) {
			t.Errorf("%s %.40s: %d %s", test.path, test.body, w.Code, w.Body)
		}
	}
}

// A page whose name has been made to point here is of the same origin, and may send
// what it likes; the browser says so.
func TestNoBrowserBeginsAJob(t *testing.T) {
	s := newServer(always(serving()))
	for _, path := range []string{"/v1/plan", "/v1/jobs", "/v1/job"} {
		for header, value := range map[string]string{"Origin": "http://example.com", "Sec-Fetch-Site": "same-origin"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", path, strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(header, value)
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != 400 || !strings.Contains(w.Body.String(), "not for browsers") {
				t.Errorf("%s with %s: %d %s", path, header, w.Code, w.Body)
			}
		}
	}
}
