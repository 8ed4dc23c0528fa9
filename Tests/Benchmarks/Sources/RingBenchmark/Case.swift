// SPDX-License-Identifier: Apache-2.0

import CGuest

/// One line of the table.
struct Case {
    let isPacked: Bool
    let shape: guest_shape
    let batch: UInt32

    /// Every line, in order.
    static var all: [Case] {
        var cases: [Case] = []
        for isPacked in [false, true] {
            for shape in [
                GUEST_ONE_DESCRIPTOR, GUEST_FOUR_DESCRIPTORS, GUEST_INDIRECT_TABLE_OF_FOUR,
            ] {
                for batch in [1, 16, 64] as [UInt32] {
                    cases.append(Case(isPacked: isPacked, shape: shape, batch: batch))
                }
            }
        }
        return cases
    }

    /// Without blanks: ring, shape, batch.
    var name: String {
        let shapeName =
            switch shape {
            case GUEST_ONE_DESCRIPTOR: "direct-1"
            case GUEST_FOUR_DESCRIPTORS: "direct-4"
            default: "indirect-4"
            }
        return "\(isPacked ? "packed" : "split")/\(shapeName)/\(batch)"
    }
}
