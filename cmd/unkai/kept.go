package main

import "unkai/internal/admin"

// kept is what a node keeps its data in.
func kept(m *admin.Node) string {
	if m.Sync == "" {
		return m.Store
	}
	return m.Store + ", sync " + m.Sync
}

// unlike reports whether some nodes keep their data otherwise than others.
func unlike(all []admin.Node) bool {
	first := ""
	for i := range all {
		if all[i].Store == "" {
			continue // away, or of an earlier release
		}
		if now := kept(&all[i]); first == "" {
			first = now
		} else if now != first {
			return true
		}
	}
	return false
}
