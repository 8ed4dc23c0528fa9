// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Glibc
import LinuxIO

// MARK: Ending

extension AIOContext {
    /// Tries that a request gets when the kernel says "not now".
    private static let maximumAttemptCount = 200
    /// Between two tries.
    private static let retryDelay = Duration.milliseconds(1)

    /// Goes on with a request whose step has ended with `result`: bytes moved, or a negative errno.
    func stepEnded(_ index: Int, result: Int) {
        if result < 0 {
            stepFailed(index, -Int32(result))
        } else if !requests[index].isTransfer {
            end(index, outcome(ofCommand: index, result))
        } else if result == requests[index].step.byteCount {
            advance(index, by: result)
        } else {
            stepCutShort(index, result)
        }
    }

    /// How a request ended that moved no bytes.
    private func outcome(ofCommand index: Int, _ result: Int) -> BlockOutcome {
        guard requests[index].request.operation == .locate else { return .done }
        return .located(isAllocated: result & 1 != 0, byteCount: result >> 1)
    }

    private func advance(_ index: Int, by byteCount: Int) {
        if requests[index].bounceBuffer != nil {
            requests[index].deliverBounced(byteCount: byteCount)
        }
        requests[index].doneByteCount += byteCount
        if requests[index].leftByteCount == 0 { return end(index, .done) }
        startStep(index)
    }

    /// Fewer bytes than asked for: the rest is asked for again, from where the alignment allows.
    ///
    /// None at all is the end of a file that has shrunk, or of the space for it.
    @inline(never)
    private func stepCutShort(_ index: Int, _ byteCount: Int) {
        let unit = requests[index].store?.with { $0.alignment?.length } ?? 1
        let usable = byteCount - byteCount % unit
        if usable > 0 { return advance(index, by: usable) }
        end(index, requests[index].isRead ? .outOfRange : .noSpace)
    }

    @inline(never)
    private func stepFailed(_ index: Int, _ code: Int32) {
        switch code {
        case EINTR:
            resend(index)
        case EAGAIN where requests[index].mayNotWait:
            // The write would have waited, for space to be found for it as a rule.
            requests[index].lane = .workers
            requests[index].mayNotWait = false
            send(index)
        case EOPNOTSUPP where requests[index].mayNotWait:
            requests[index].store?.with { $0.state.value.refusesToWait = false }
            requests[index].mayNotWait = false
            resend(index)
        case EAGAIN where requests[index].attempts < Self.maximumAttemptCount:
            requests[index].attempts += 1
            state.value.retrying.append(index, in: requests)
            setRetryTimer()
        case EINVAL where mayBounce(index):
            // The kernel wants more of the pieces than it said.
            requests[index].mustBounce = true
            startStep(index)
        default:
            end(index, failure(index, code))
        }
    }

    private func mayBounce(_ index: Int) -> Bool {
        let isDirect =
            requests[index].store?.with { $0.alignment != nil } ?? false
        return requests[index].isTransfer && isDirect && !requests[index].mustBounce
    }

    private func failure(_ index: Int, _ code: Int32) -> BlockOutcome {
        let operation = requests[index].request.operation
        let done = requests[index].doneByteCount
        let outcome = BlockOutcome(errno: code, goodByteCount: done)
        requests[index].store?.with { store in
            store.noteFailure(of: operation, outcome, errno: code)
        }
        return outcome
    }

    private func resend(_ index: Int) {
        requests[index].isTransfer ? send(index) : start(index)
    }

    /// Tells the owner, and frees what the request held.
    private func end(_ index: Int, _ outcome: BlockOutcome) {
        if let buffer = requests[index].bounceBuffer { putBack(buffer, of: index) }
        guard let store = requests[index].store, let owner = requests[index].owner else { return }
        let token = requests[index].token
        vacate(index)
        owner.requestEnded(token: token, outcome: outcome)
        store.with { $0.requestEnded() }
    }

    @inline(never)
    private func putBack(_ buffer: Int, of index: Int) {
        requests[index].bounceBuffer = nil
        state.value.bounce.putBack(buffer)
        requests[index].store?.with { $0.state.value.bounceCount -= 1 }
        let next = state.value.bounceWaiting.removeFirst(in: requests) { mayTakeBounce($0) }
        if let next { startStep(next) }
    }

    /// Tells the owners of the requests that ended before the kernel saw them.
    func deliverEnded() {
        while let index = state.value.ended.removeFirst(in: requests) {
            end(index, requests[index].outcome)
        }
        while let late = state.value.late.removeFirst() {
            late.owner.requestEnded(token: late.token, outcome: .gone)
            late.store.with { $0.requestEnded() }
        }
    }
}

// MARK: Trying again

extension AIOContext {
    func setRetryTimer() {
        if state.value.hasRetryTimer { return }
        state.value.hasRetryTimer = true
        loop.setTimer(after: Self.retryDelay, handler: loopSide)
    }

    /// Tries everything again that the kernel had no room for.
    func retry() {
        state.value.hasRetryTimer = false
        var again = state.value.retrying
        state.value.retrying = RequestList()
        while let index = again.removeFirst(in: requests) { resend(index) }
        if state.value.batchCount > 0 { loop.deferWork(loopSide) }
    }
}

extension BlockOutcome {
    /// What an errno of a transfer, a flush or a discard means for the disk.
    init(errno code: Int32, goodByteCount: Int) {
        switch code {
        case ENOSPC, EDQUOT, EFBIG: self = .noSpace
        case EOPNOTSUPP, ENOSYS, ENOTTY: self = .unsupported
        case EAGAIN, ENOMEM, ENOBUFS: self = .busy
        case ENODEV, ENXIO, ENOMEDIUM, ESHUTDOWN: self = .gone
        default: self = .mediumError(goodByteCount: goodByteCount)
        }
    }
}
