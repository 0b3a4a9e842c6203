package main

import (
	"strings"
	"testing"

	"unkai/internal/admin"
)

// A job that brings nobody anything tells of buckets.
func TestProgressWithoutNewReplicas(t *testing.T) {
	j := &admin.Job{Progress: 0.25, Planned: admin.Amount{Buckets: 64}, Moved: admin.Amount{Buckets: 16}}
	if got := progress(j); !strings.HasSuffix(got, " 25 %  16 of 64 buckets, each with fewer replicas") {
		t.Error(got)
	}
	if got := planned(j); got != "64 buckets, no new replica" {
		t.Error(got)
	}
	if got := moved(admin.Amount{}); got != "0 replicas, 0 B" {
		t.Error(got)
	}
}
