"""What a trained model costs at inference, and the variant that costs least for what it loses."""
