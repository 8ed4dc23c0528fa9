// SPDX-License-Identifier: Apache-2.0

/// What a front-end can ask for (vhost-user, "Front-end message types").
///
/// Every number that the protocol knows has a row, so that a refusal can be logged by name; the
/// rows that have no `form` are not served.
enum RequestCode: UInt32, CaseIterable {
    /// VHOST_USER_GET_FEATURES.
    case getFeatures = 1
    /// VHOST_USER_SET_FEATURES.
    case setFeatures = 2
    /// VHOST_USER_SET_OWNER.
    case setOwner = 3
    /// VHOST_USER_RESET_OWNER.
    case resetOwner = 4
    /// VHOST_USER_SET_MEM_TABLE.
    case setMemoryTable = 5
    /// VHOST_USER_SET_LOG_BASE.
    case setLogBase = 6
    /// VHOST_USER_SET_LOG_FD.
    case setLogDescriptor = 7
    /// VHOST_USER_SET_VRING_NUM.
    case setRingSize = 8
    /// VHOST_USER_SET_VRING_ADDR.
    case setRingAddresses = 9
    /// VHOST_USER_SET_VRING_BASE.
    case setRingBase = 10
    /// VHOST_USER_GET_VRING_BASE.
    case getRingBase = 11
    /// VHOST_USER_SET_VRING_KICK.
    case setRingKick = 12
    /// VHOST_USER_SET_VRING_CALL.
    case setRingCall = 13
    /// VHOST_USER_SET_VRING_ERR.
    case setRingError = 14
    /// VHOST_USER_GET_PROTOCOL_FEATURES.
    case getProtocolFeatures = 15
    /// VHOST_USER_SET_PROTOCOL_FEATURES.
    case setProtocolFeatures = 16
    /// VHOST_USER_GET_QUEUE_NUM.
    case getQueueCount = 17
    /// VHOST_USER_SET_VRING_ENABLE.
    case setRingEnable = 18
    /// VHOST_USER_SEND_RARP.
    case sendRARP = 19
    /// VHOST_USER_NET_SET_MTU.
    case setMTU = 20
    /// VHOST_USER_SET_BACKEND_REQ_FD.
    case setBackEndChannel = 21
    /// VHOST_USER_IOTLB_MSG.
    case translationMessage = 22
    /// VHOST_USER_SET_VRING_ENDIAN.
    case setRingEndianness = 23
    /// VHOST_USER_GET_CONFIG.
    case getConfiguration = 24
    /// VHOST_USER_SET_CONFIG.
    case setConfiguration = 25
    /// VHOST_USER_CREATE_CRYPTO_SESSION.
    case createCryptoSession = 26
    /// VHOST_USER_CLOSE_CRYPTO_SESSION.
    case closeCryptoSession = 27
    /// VHOST_USER_POSTCOPY_ADVISE.
    case postcopyAdvise = 28
    /// VHOST_USER_POSTCOPY_LISTEN.
    case postcopyListen = 29
    /// VHOST_USER_POSTCOPY_END.
    case postcopyEnd = 30
    /// VHOST_USER_GET_INFLIGHT_FD.
    case getInflightDescriptor = 31
    /// VHOST_USER_SET_INFLIGHT_FD.
    case setInflightDescriptor = 32
    /// VHOST_USER_GPU_SET_SOCKET.
    case setGPUSocket = 33
    /// VHOST_USER_RESET_DEVICE.
    case resetDevice = 34
    /// VHOST_USER_VRING_KICK.
    case kickRing = 35
    /// VHOST_USER_GET_MAX_MEM_SLOTS.
    case getMemorySlotCount = 36
    /// VHOST_USER_ADD_MEM_REG.
    case addMemoryRegion = 37
    /// VHOST_USER_REM_MEM_REG.
    case removeMemoryRegion = 38
    /// VHOST_USER_SET_STATUS.
    case setStatus = 39
    /// VHOST_USER_GET_STATUS.
    case getStatus = 40
    /// VHOST_USER_GET_SHARED_OBJECT.
    case getSharedObject = 41
    /// VHOST_USER_SET_DEVICE_STATE_FD.
    case setDeviceStateDescriptor = 42
    /// VHOST_USER_CHECK_DEVICE_STATE.
    case checkDeviceState = 43
    /// VHOST_USER_GET_SHMEM_CONFIG.
    case getSharedMemoryConfiguration = 44
}

/// How a request's payload is laid out (vhost-user, "Message specification").
enum PayloadForm: Equatable {
    /// No payload.
    case none
    /// One u64.
    case integer
    /// A vring state description: u32 index, u32 number.
    case ringValue
    /// A vring address description.
    case ringAddresses
    /// Log description: u64 size, u64 offset.
    case logArea
    /// Memory regions description: a count, then as many regions; a tail is ignored.
    case memoryTable
    /// Single memory region description.
    case memoryRegion
    /// Virtio device config space: offset, size, flags, and as many bytes.
    case configuration

    /// Whether a payload can have this many bytes; what is inside is checked when it is read.
    func allows(byteCount: Int) -> Bool {
        switch self {
        case .none: byteCount == 0
        case .integer, .ringValue: byteCount == 8
        case .logArea: byteCount == 16
        case .ringAddresses, .memoryRegion: byteCount == 40
        case .memoryTable: byteCount >= 8
        case .configuration: byteCount >= 12
        }
    }
}

/// What a request must look like, and how it is answered.
struct RequestForm {
    /// How the payload is laid out.
    let payload: PayloadForm
    /// How many descriptors come with it; nil when its payload says so.
    let descriptorCount: ClosedRange<Int>?
    /// Whether it is always answered with a body of its own, so that NEED_REPLY changes nothing.
    let hasReplyBody: Bool
    /// Which protocol features must have been negotiated.
    let gate: ProtocolFeatures

    init(
        _ payload: PayloadForm, descriptors: ClosedRange<Int>? = 0...0,
        repliesWithBody: Bool = false,
        gate: ProtocolFeatures = []
    ) {
        self.payload = payload
        descriptorCount = descriptors
        hasReplyBody = repliesWithBody
        self.gate = gate
    }
}

extension RequestCode {
    /// The form of a request that is served; nil of one that is not.
    var form: RequestForm? {
        switch self {
        case .getFeatures, .getProtocolFeatures: RequestForm(.none, repliesWithBody: true)
        case .setFeatures, .setProtocolFeatures: RequestForm(.integer)
        case .setOwner, .resetOwner: RequestForm(.none)
        case .setMemoryTable: RequestForm(.memoryTable, descriptors: nil)
        case .setLogBase:
            RequestForm(
                .logArea, descriptors: 1...1, repliesWithBody: true, gate: .sharedLog)
        case .setRingSize, .setRingBase, .setRingEnable: RequestForm(.ringValue)
        case .setRingAddresses: RequestForm(.ringAddresses)
        case .getRingBase: RequestForm(.ringValue, repliesWithBody: true)
        case .setRingKick, .setRingCall, .setRingError: RequestForm(.integer, descriptors: nil)
        // Without a gate: SPDK's initiator asks even where MQ was not negotiated.
        case .getQueueCount: RequestForm(.none, repliesWithBody: true)
        case .setBackEndChannel: RequestForm(.none, descriptors: 1...1, gate: .backEndRequests)
        case .getConfiguration:
            RequestForm(.configuration, repliesWithBody: true, gate: .configuration)
        case .setConfiguration: RequestForm(.configuration, gate: .configuration)
        case .resetDevice: RequestForm(.none, gate: .resetDevice)
        case .getMemorySlotCount: RequestForm(.none, repliesWithBody: true, gate: .memorySlots)
        case .addMemoryRegion: RequestForm(.memoryRegion, descriptors: 1...1, gate: .memorySlots)
        // Some front-ends send a descriptor here, which is closed.
        case .removeMemoryRegion:
            RequestForm(.memoryRegion, descriptors: 0...1, gate: .memorySlots)
        default: nil
        }
    }
}
