package record

// CopiedTables names the tables that Copy copies.
func CopiedTables() (names []string) {
	for _, t := range copiedTables {
		names = append(names, t.name)
	}
	return names
}
