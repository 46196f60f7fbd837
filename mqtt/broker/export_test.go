package broker

// LookAgain makes the broker look at its files at once, instead of after lookEvery.
func LookAgain(b *Broker) {
	for _, k := range b.watched {
		k.lookAgain()
	}
}
