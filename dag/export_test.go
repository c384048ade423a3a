package dag

// Faults is how many rules can be broken on purpose.
const Faults = int(faults)

// Plant breaks a rule until the returned function is called.
func Plant(f int) func() {
	planted = fault(f)
	return func() { planted = faultNone }
}
