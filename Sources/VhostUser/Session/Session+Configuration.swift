// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage
import Virtio

extension Session {
    /// Bytes that a configuration space may have (VHOST_USER_MAX_CONFIG_SIZE).
    private static let configurationByteCount = 256

    /// VHOST_USER_GET_CONFIG.
    ///
    /// What lies beyond the device's own structure reads as zero: user-mode-linux reads from the
    /// start whatever it wants, Cloud Hypervisor passes each access of the guest on.
    func getConfiguration(_ range: ConfigurationRange) -> Outcome {
        let end = UInt64(range.offset) + UInt64(range.byteCount)
        guard end <= UInt64(Self.configurationByteCount) else { return .reply([]) }
        let whole = device.readConfiguration()
        var writer = PayloadWriter()
        writer.append(range.offset)
        writer.append(range.byteCount)
        writer.append(range.flags)
        writer.append((Int(range.offset)..<Int(end)).map { $0 < whole.count ? whole[$0] : 0 })
        return .reply(writer.bytes)
    }

    /// VHOST_USER_SET_CONFIG.
    func setConfiguration(
        _ range: ConfigurationRange, _ bytes: [UInt8]
    ) throws(VhostUserError) -> Outcome {
        guard device.writeConfiguration(bytes, at: Int(range.offset)) else {
            throw .configurationNotWritable(offset: range.offset, byteCount: range.byteCount)
        }
        return .done
    }

    /// VHOST_USER_SET_BACKEND_REQ_FD.
    func setBackEndChannel(_ descriptors: ReceivedDescriptors) throws(VhostUserError) -> Outcome {
        guard let descriptor = descriptors.take() else {
            throw .illegalDescriptorCount(.setBackEndChannel, count: descriptors.count)
        }
        do throws(Errno) {
            backEndChannel = try BackEndChannel(taking: descriptor)
        } catch {
            throw .unusableDescriptor(.setBackEndChannel, error)
        }
        return .done
    }

    /// The device's configuration has changed: the front-end is told while a ring runs, else when
    /// the next one starts.
    ///
    /// Never before: QEMU does not survive a message for a device that is stopped.
    func configurationChanged() {
        guard protocolFeatures.isSuperset(of: [.configuration, .backEndRequests]) else { return }
        guard isRunning, drain == nil, let backEndChannel else {
            owesConfigurationChange = true
            return
        }
        do throws(Errno) {
            owesConfigurationChange = !(try backEndChannel.send(.configurationChange))
        } catch {
            owesConfigurationChange = false
            self.backEndChannel = nil
            logger.debug("the back-end channel is closed", metadata: ["error": "\(error)"])
        }
    }
}
