// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// A request that found no free slot.
struct WaitingRequest {
    let request: BlockRequest
    let store: StoreReference
    let owner: OwnerReference
    let token: UInt64
}

/// Requests of a store without a slot, first come first served.
struct WaitingRequests {
    private var list: [WaitingRequest] = []
    private var first = 0

    var isEmpty: Bool { list.isEmpty }

    mutating func append(_ request: WaitingRequest) {
        list.append(request)
    }

    mutating func removeFirst() -> WaitingRequest? {
        guard first < list.count else { return nil }
        let request = list[first]
        first += 1
        if first == list.count {
            list.removeAll(keepingCapacity: true)
            first = 0
        } else if first >= 1024 && first * 2 >= list.count {
            // A queue that is never empty must not keep what has left it.
            list.removeSubrange(0..<first)
            first = 0
        }
        return request
    }
}
