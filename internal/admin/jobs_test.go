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

func (lonely) Repair(_ context.Context, w RepairWish) (RepairRun, error) {
	if w.Bucket == nil {
		return RepairRun{}, fmt.Errorf("%w: 4 repairs are under way already", ErrConflict)
	}
	return RepairRun{ID: "a1", Buckets: 1, Running: true}, nil
}

func (lonely) Repaired(_ context.Context, id string) (RepairRun, error) {
	if id == "x" {
		return RepairRun{}, fmt.Errorf("%w: not the id of a repair", ErrBadRequest)
	}
	return RepairRun{ID: id, Equal: 7}, nil
}

func TestRepairPage(t *testing.T) {
	s := newServer(always(serving()))
	for path, want := range map[string]struct {
		code int
		says string
	}{
		"/v1/repair?id=x": {400, "not the id"}, "/v1/repair": {200, `"id": ""`}, "/v1/repair?id=b2": {200, `"equal": 7`},
	} {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.code || !strings.Contains(w.Body.String(), want.says) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
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
		{"/v1/repair", "application/json", `{"bucket":3}`, 200, `"id": "a1"`},
		{"/v1/repair", "application/json", `{}`, 409, "under way already"},
		{"/v1/repair", "text/plain", `{}`, 400, "Content-Type"},
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
	for _, path := range []string{"/v1/plan", "/v1/jobs", "/v1/job", "/v1/repair"} {
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
